"""Training runs on the real graph: shares of the labels, seeds, maps, several processes."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from assets import build_graph
from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.data.opening import open_dataset
from instsynth_dagster.errors import BudgetReached, SettingsError
from instsynth_dagster.graph import TrainingRun, TrainingSet
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.launch import train_run
from instsynth_dagster.segmenters.training.samples import labelled_frames
from instsynth_dagster.settings import Settings
from resources import build_resources
from tests.assets.test_graph import Project, settings_for, write_city
from tests.segmenters.test_contract import TINY
from tests.segmenters.test_oneformer import ARCHITECTURE
from tests.segmenters.toy import tiny

EOMT = TINY["eomt"]
ONEFORMER = tiny(kind="oneformer", architecture=ARCHITECTURE, tokenizer="checkpoints/mini-clip", steps=1)


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def test_lists_of_labelled_frames_are_fixed_and_nested() -> None:
    frames = [f"town_{number:06}_000019" for number in range(40)]
    lists = {percent: labelled_frames(frames, percent) for percent in (1, 5, 10, 20, 30, 100)}
    assert [len(found) for found in lists.values()] == [1, 2, 4, 8, 12, 40]
    smaller = list(lists.values())
    assert all(few <= many for few, many in pairwise(smaller))
    assert lists[10] == labelled_frames(frames[::-1], 10)
    assert lists[5] == {"town_000011_000019", "town_000033_000019"}  # the same for everyone, for good


@pytest.mark.parametrize("data", [TrainingSet("real"), TrainingSet("copy_paste", 5)])
@pytest.mark.parametrize("seed", [0, 12])
def test_names_of_runs_are_read_back(data: TrainingSet, seed: int) -> None:
    assert TrainingSet.parse(data.name) == data
    assert TrainingRun.parse(TrainingRun(data, seed).name) == TrainingRun(data, seed)


@pytest.mark.slow
def test_tables_hold_seeds_shares_and_maps(project) -> None:
    project.refresh(
        arms=["real", "copy_paste"],
        label_percents=[100, 50],
        training_seeds=[0, 1],
        segmenters={"oneformer": ONEFORMER.model_dump(exclude_unset=True)},
    )
    store = project.store
    samples = {name: store.read("training_sets", name) for name in ("copy_paste", "copy_paste@50", "real@50")}
    labelled = set(samples["real@50"]["sample_id"])
    frames = samples["copy_paste@50"].query("source == 'frame'")
    assert set(frames["sample_id"]) == labelled
    assert 0 < len(labelled) < (samples["copy_paste"]["source"] == "frame").sum()
    for row in samples["copy_paste@50"].query("source == 'window'").itertuples():
        window = store.read("copy_paste/is_cityscapes", row.partition).iloc[row.row]
        assert window["frame_id"] == row.sample_id
        assert {window["source_frame"], window["instance_id"].split(":")[0]} <= labelled
    assert len(samples["copy_paste@50"]) < len(samples["copy_paste"])

    folder = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    table = pd.read_parquet(folder / "average_precision.parquet")
    assert list(zip(table["percent"], table["arm"], table["seeds"], strict=True)) == [
        (percent, arm, 2) for percent in (100, 50) for arm in ("real", "copy_paste")
    ]
    assert table[["ap_sd", "pq", "miou", "miou_sd"]].notna().all(axis=None)
    assert "Table III: oneformer" in (folder / "results_oneformer.md").read_text()
    assert len(pd.read_parquet(folder / "parts.parquet")) == 2 * (4 + 3)  # classes, and sizes of COCO
    scores = store.require("segmentation_scores", "real@50-s1|oneformer")
    assert {"pq", "miou"} <= set(scores.summary)
    assert {"seconds_per_step", "peak_memory_mb"} <= set(
        store.require("trained_segmenters", "real-s0|oneformer").summary
    )
    report = next(store.folder("report", UNPARTITIONED, "report").glob("*.html")).read_text()
    assert "over the share of labelled frames" in report


@pytest.mark.slow
def test_a_test_city_is_scored_apart_and_changes_nothing_else(project) -> None:
    dataset = {"root": project.root / "data", "train_cities": ["ashford", "birchley"], "val_cities": ["valdale"]}
    given = {"segmenters": {"tiny": tiny(kind="eomt", steps=1, **EOMT).model_dump(exclude_unset=True)}}
    project.refresh(dataset=dataset, **given)

    def tables() -> dict[str, pd.DataFrame]:
        folder = project.store.folder("evaluation_tables", UNPARTITIONED, "tables")
        return {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}

    before = tables()
    assert before["test_differences"].empty
    write_city(project.root / "data", "farwell", "val")
    made = {asset for asset, _ in project.refresh(dataset=dataset | {"test_cities": ["farwell"]}, **given)}
    assert "segmentation_scores" in made
    assert "trained_segmenters" not in made
    after = tables()
    for name in ("average_precision", "differences", "parts", "table_1"):
        pd.testing.assert_frame_equal(before[name], after[name])
    assert after["test_average_precision"]["city"].tolist() == ["farwell"] * 2
    assert after["test_differences"][["city", "frames"]].to_numpy().tolist() == [["farwell", 2]]
    predicted = project.store.require("segmentation_scores", "real-s0|tiny").summary
    assert predicted["frames"] == 2
    folder = project.store.folder("evaluation_tables", UNPARTITIONED, "tables")
    assert "2 frames of farwell" in (folder / "test_0.md").read_text()


def run_of(settings: Settings, project: Project) -> tuple:
    """Arguments of `train_run`, as the asset gives them."""
    made = build_graph(settings)["trained_segmenters"]
    given = made.arguments("real-s0|tiny", {"store": project.store})
    chosen = given["settings"]
    return (
        TrainingRun.parse("real-s0"),
        chosen.segmenters["tiny"],
        chosen.classes,
        open_dataset(settings),
        given["store"],
    )


@pytest.mark.slow
def test_two_processes_share_a_batch_and_a_budget_stops_them_after_the_same_step(project, tmp_path) -> None:
    # without batch norm, which sees one image where it would see two
    recipe = tiny(kind="eomt", steps=3, batch_size=2, checkpoint_every=1, **EOMT)
    project.refresh(arms=["real"])

    def trained(processes: int, progress: Progress | None = None) -> FitResult:
        given = recipe.model_copy(update={"processes": processes}).model_dump(exclude_unset=False)
        settings = settings_for(project.root, segmenters={"tiny": given})
        folder = tmp_path / f"by{processes}"
        (folder / "scratch").mkdir(parents=True, exist_ok=True)
        places = {"out": folder / "checkpoint", "scratch": folder / "scratch", "device": "cpu"}
        return train_run(*run_of(settings, project), progress=progress, **places)

    seen: list[int] = []

    def poor(done: int, _: int, _loss: float | None = None) -> None:
        seen.append(done)
        if done == 2:
            raise BudgetReached("costs.device_hours: used up")

    with pytest.raises(BudgetReached, match="used up"):
        trained(2, poor)
    shared = trained(2, lambda done, *_: seen.append(done))
    assert seen == [1, 2, 3]
    alone = trained(1)
    assert shared.curve["step"].tolist() == alone.curve["step"].tolist() == [3]
    # each process draws its own points, so the losses differ a little
    assert shared.curve["loss"].to_numpy() == pytest.approx(alone.curve["loss"].to_numpy(), rel=0.02)
    ours, theirs = (load_file(result.folder / "model.safetensors") for result in (alone, shared))
    assert ours.keys() == theirs.keys()
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_failed_worker_is_one_clear_line(project, tmp_path) -> None:
    """There is no training set for it to read."""
    settings = settings_for(project.root, segmenters={"tiny": tiny(processes=2).model_dump()})
    project.store = build_resources(settings)["store"]
    with pytest.raises(SettingsError, match="a worker of the 2 that train real-s0"):
        train_run(*run_of(settings, project), out=tmp_path / "o", scratch=tmp_path, device="cpu")


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be shared equally by 3"):
        tiny(processes=3)
