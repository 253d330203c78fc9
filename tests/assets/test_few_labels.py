"""Few-shot instances and instances from semantic maps on the real graph, with tiny real models."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, read_ids
from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.few_shot.tasks import FewShotTask
from tests.assets.test_graph import Project, settings_for
from tests.jobs.test_partial import Spied
from tests.segmenters.test_contract import TINY
from tests.segmenters.test_generative import CONV
from tests.segmenters.test_maskdiff import ARCHITECTURE as MASKDIFF
from tests.segmenters.toy import tiny

CLASSES = ["person", "car", "motorcycle"]


def recipe(kind: str, **changes):
    return tiny(kind=kind, crop=(32, 64), steps=1, **changes).model_dump(exclude_unset=True)


SYSTEMS = {
    "maskdiff": {
        "detector": "generative",
        "base": recipe("maskdiff", architecture=MASKDIFF | {"min_side": 4, "min_score": 0.0}),
    },
    "generative": {
        "base": recipe("generative", architecture=CONV | {"cosine_scale": 20.0}),
        "tune": {"architecture": {"train_only": ["class", "box", "kernel"]}},
    },
    "fastinst": {
        "base": recipe("fastinst", **TINY["fastinst"]),
        "tune": {"architecture": {}},
    },
}


def few_shot_settings(project: Spied, **changes):
    section = {
        "novel": ["motorcycle"],
        "generator": "diffinpainting",
        "shots": [2],
        "seeds": [0, 1],
        "replicas": 2,
        "systems": SYSTEMS,
    }
    prompts = {name: project.raw["prompts"][name] for name in CLASSES}
    prompts["motorcycle"] = {"templates": ["a photo of a motorcycle {lighting}"]}
    return {
        "classes": CLASSES,
        "prompts": prompts,
        "arms": ["real"],
        "segmenters": {},
        "few_shot_instances": section | changes,
    }


@pytest.mark.slow
def test_few_shot_instances_with_and_without_synthesis(tmp_path, monkeypatch) -> None:
    project = Spied(tmp_path, monkeypatch)
    project.edited(**few_shot_settings(project))
    store = project.store
    rows = store.read("fsis_scores", "k2-s1")
    assert set(rows["system"]) == set(SYSTEMS)
    windows = rows.groupby("with_synthesis")["windows"].first()
    assert windows[False] == 2 * len(CLASSES)
    assert windows[True] == windows[False] + 2 * 2  # two replicas of two shots of the novel class
    assert rows[["base_ap", "novel_ap", "all_ap", "base_coco_ap", "novel_coco_ap"]].stack().between(0, 1).all()
    given = rows.set_index("system")["novel_mask_iou"]
    assert given["maskdiff"].between(0, 1).all()
    assert given["fastinst"].isna().all()
    table = store.read("fsis_table")
    assert len(table) == 3 * 2
    assert (table["seeds"] == 2).all()
    for name in SYSTEMS:
        config = (store.folder("fsis_base", name, "checkpoint") / "config.json").read_text()
        assert "motorcycle" not in config

    # another number of shots trains no base again
    made = project.edited(**few_shot_settings(project, shots=[1, 2], seeds=[1]))
    assert made == {"fsis_scores": {"k1-s1"}, "fsis_table": {UNPARTITIONED}}
    assert store.read("fsis_table")["shots"].value_counts().to_dict() == {1: 3 * 2, 2: 3 * 2}
    # nor does another protocol, whose AP is there already
    made = project.edited(**few_shot_settings(project, shots=[1, 2], seeds=[1]), evaluation={"protocol": "coco"})
    assert made == {"fsis_table": {UNPARTITIONED}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"novel": ["tram"]}, "novel must be some of the classes"),
        ({"generator": "sdxl"}, "not in generators"),
        ({"systems": {"maskdiff": SYSTEMS["maskdiff"]}}, "finds no boxes"),
    ],
)
def test_impossible_protocols_are_refused(changes, message, tmp_path, monkeypatch) -> None:
    project = Spied(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=message):
        settings_for(tmp_path, **(project.raw | few_shot_settings(project, **changes)))


@pytest.mark.parametrize("task", [FewShotTask(1, 0), FewShotTask(10, 12)])
def test_names_of_tasks_are_read_back(task: FewShotTask) -> None:
    assert FewShotTask.parse(task.name) == task


SISEG = recipe("siseg", architecture={"widths": (8, 8, 8)})
SEGMENTERS = {"tiny": tiny(steps=1).model_dump(exclude_unset=True)}


@pytest.mark.slow
def test_semantic_maps_become_training_data(tmp_path) -> None:
    project = Project(tmp_path)
    given = {"arms": ["real", "from_semantics"], "segmenters": SEGMENTERS}
    project.refresh(semantics={"segmenter": SISEG, "cities": ["ashford"]}, **given)
    store = project.store
    rows = store.read("instances_from_semantics", "ashford")
    real = store.read("frames", "ashford").set_index("frame_id")
    for row in rows.itertuples():
        assert row.image_sha256 == real.loc[row.frame_id, "image_sha256"]
        ids = decode_png(row.ids_png).astype(np.int32)
        known = read_ids(tmp_path / "data" / real.loc[row.frame_id, "ids"])
        things = known >= 1000
        assert (
            CITYSCAPES.label_ids(ids)[things] == CITYSCAPES.label_ids(known)[things]
        ).all()  # classes are given, instances are told
        assert (ids[known == 7] == 7).all()
        assert set(row.instance_classes) >= {"car", "motorcycle", "person"}
    samples = store.read("training_sets", "from_semantics")
    assert samples["source"].value_counts().to_dict() == {"grouped": 2, "frame": 2}
    assert store.manifest("trained_segmenters", "from_semantics-s0|tiny")
    scores = store.read("grouping_scores")
    assert scores["method"].tolist() == ["connected components", "siseg"]
    assert scores[["ap", "iou"]].stack().between(0, 1).all()
    assert project.refresh(semantics={"segmenter": SISEG, "cities": ["ashford"]}, **given) == []


@pytest.mark.slow
def test_a_city_with_semantic_maps_only_is_enough(tmp_path) -> None:
    """Its instance maps are not missed, and its changed label map is noticed."""
    project = Project(tmp_path)
    for path in (tmp_path / "data").rglob("birchley_*_instanceIds.png"):
        path.unlink()
    changes = {
        "dataset": {"root": tmp_path / "data", "train_cities": ["ashford"], "val_cities": ["valdale"]},
        "semantics": {"segmenter": SISEG, "cities": ["birchley"]},
        "arms": ["real", "from_semantics"],
    }
    project.refresh(**changes)
    samples = project.store.read("training_sets", "from_semantics")
    assert isinstance(samples, pd.DataFrame)
    assert samples["source"].value_counts().to_dict() == {"frame": 2, "grouped": 2}
    assert project.refresh(**changes) == []
    labels = next((tmp_path / "data").rglob("birchley_*_labelIds.png"))
    edited = decode_png(labels.read_bytes())
    edited[40:60, 95:115] = 26  # a car more
    labels.write_bytes(encode_png(edited))
    made = {asset for asset, _ in project.refresh(**changes)}
    assert made == {"instances_from_semantics", "training_sets"}


def test_a_val_city_may_not_become_training_data(tmp_path) -> None:
    with pytest.raises(ValueError, match="valdale, a val or test city"):
        settings_for(tmp_path, semantics={"segmenter": SISEG, "cities": ["valdale"]})
