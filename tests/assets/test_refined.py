"""Refined pseudo-labels and few-shot tables on the real graph, with a tiny real generator and real features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.few_shot.synthesis import repainted_shots
from instsynth_dagster.settings import IntegrationSettings
from resources.device import Device
from resources.generators import Generators
from tests.assets.test_graph import settings_for
from tests.jobs.test_partial import Spied

FEATURES = {"kind": "backbone", "model": "checkpoints/mini-mask2former", "stages": [0, 1]}
REFINED = "diffinpainting/refined_pseudo_labels"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Iterator[Spied]:
    """One for all tests: what one of them edits stays edited for the next."""
    with pytest.MonkeyPatch.context() as patch:
        spied = Spied(tmp_path_factory.mktemp("project"), patch)
        spied.raw |= {
            "refinement": {"features": FEATURES, "support_frames": 2},
            "arms": ["real", "diffinpainting", "diffinpainting_refined"],
        }
        spied.edited()
        yield spied


@pytest.mark.slow
def test_refined_labels_train_beside_the_given_ones(project) -> None:
    store = project.store
    partition = "ashford|car"
    windows, refined = store.read("diffinpainting/is_cityscapes", partition), store.read(REFINED, partition)
    assert refined["frame_id"].tolist() == windows["frame_id"].tolist()
    for before, after in zip(windows.itertuples(), refined.itertuples(), strict=True):
        given, found = (decode_png(png).astype(int) for png in (before.ids_png, after.ids_png))
        value = int(before.instance_id.rpartition(":")[2])
        assert not ((found == value) & (given != value)).any()  # only ever smaller
        others = (given != value) & (given >= 1000)
        assert (found[others] == given[others]).all()
        if after.verdict == "lost":
            assert not (found == value).any()
        else:
            assert after.pixels_after == (found == value).sum()
    samples = {arm: store.read("training_sets", arm) for arm in ("diffinpainting", "diffinpainting_refined")}
    assert len(samples["diffinpainting"]) == len(samples["diffinpainting_refined"])
    assert store.manifest("segmentation_scores", "diffinpainting_refined-s0|tiny")
    tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    assert "diffinpainting_refined" in set(pd.read_parquet(tables / "average_precision.parquet")["arm"])
    assert store.require("prototypes").rows == 3 + 2  # three classes are there; background and center
    assert store.require(REFINED, partition).device_seconds > 0
    assert store.require("prototypes").device_seconds > 0


@pytest.mark.slow
def test_a_refinement_threshold_repaints_nothing(project) -> None:
    raw = project.raw["refinement"]
    made = project.edited(refinement=raw | {"min_cosine": 0.99})
    assert not project.painted
    assert REFINED in made
    assert "prototypes" not in made
    assert "diffinpainting/is_cityscapes" not in made
    assert made.get("training_sets", set()) <= {"diffinpainting_refined"}


@pytest.mark.slow
def test_a_refined_arm_needs_the_section(project) -> None:
    with pytest.raises(ValueError, match="refined arms need a section refinement"):
        settings_for(project.root, arms=["real", "diffinpainting_refined"], generators=project.raw["generators"])


@pytest.mark.slow
def test_few_shot_tables_with_and_without_synthesis(tmp_path, monkeypatch) -> None:
    project = Spied(tmp_path, monkeypatch)
    few_shot = {"features": FEATURES, "generator": "diffinpainting", "shots": [1, 2], "seeds": [0, 1], "replicas": 2}
    prompts = {name: {"templates": [f"a photo of a {name} {{lighting}}"]} for name in project.raw["prompts"]}
    project.edited(arms=["real"], segmenters={}, few_shot=few_shot, prompts=prompts)
    rows = project.store.read("gfss_scores", "0")
    assert set(rows["shots"]) == {1, 2}
    assert (rows.query("with_synthesis")["synthetic"] > 0).all()
    assert rows[["base", "novel", "mean", "harmonic"]].stack().between(0, 1).all()
    table = project.store.read("gfss_table")
    assert set(table["background"]) == {"excluded", "in_base"}
    assert (table["seeds"] == 2).all()
    assert table[["novel_sd", "harmonic_sd"]].notna().all(axis=None)


@pytest.mark.slow
def test_synthesis_reads_the_shots_and_nothing_else(project) -> None:
    """Only the rows that are given are repainted, and only their frames are opened."""
    settings = settings_for(project.root, **project.raw)
    store = project.store
    selected = store.read("selected_instances", "ashford|car")
    shot = selected["frame_id"].iloc[0]
    frames = selected["frame_id"] == shot
    asked = []

    def image_of(frame_id: str) -> np.ndarray:
        asked.append(frame_id)
        return np.zeros((64, 128, 3), np.uint8)

    made = list(
        repainted_shots(
            selected[frames],
            store.read("prompt_bank", "car"),
            image_of,
            Generators(Device("cpu")).load("diffinpainting", settings.generators["diffinpainting"]),
            "diffinpainting",
            settings.generators["diffinpainting"],
            IntegrationSettings(window_size=(128, 64)),
            seed=0,
            replicas=2,
        )
    )
    assert set(asked) == {shot}
    assert len(made) == 2 * (selected["frame_id"] == shot).sum()
    assert {shot.instance_id for shot in made} == set(selected["instance_id"][frames])
    for image, mask in ((shot.image, shot.mask) for shot in made):
        assert image.shape == (64, 128, 3)
        assert mask.any()
        assert not image[~mask].any()  # outside the mask the frame is untouched
        assert image[mask].any()
