"""The gate on masks in the graph: who judges whom, and what an edit makes again."""

from __future__ import annotations

import pytest

from assets import build_graph
from tests.assets.test_graph import settings_for
from tests.jobs.test_partial import Spied

CLASSES = ["car", "person"]
JUDGED = "diffinpainting/mask_agreement"


def raw(project: Spied) -> dict:
    prompts = {name: project.raw["prompts"][name] for name in CLASSES}
    judge = project.raw["judge"] | {"masks": {"segmenter": "tiny", "min_score": 0.0}}
    return {"classes": CLASSES, "prompts": prompts, "judge": judge, "arms": ["real", "diffinpainting"]}


def test_no_judge_has_seen_the_city_that_it_judges(tmp_path, monkeypatch) -> None:
    project = Spied(tmp_path, monkeypatch)
    graph = build_graph(settings_for(tmp_path, **(project.raw | raw(project))))
    for city, other in (("ashford", "birchley"), ("birchley", "ashford")):
        seen = {partition for asset, partition in graph["mask_judges"].upstream(city) if asset != "splits"}
        assert seen == {other}
        judges = {ref for ref in graph[JUDGED].upstream(f"{city}|car") if ref[0] == "mask_judges"}
        assert judges == {("mask_judges", city)}


@pytest.mark.slow
def test_scores_are_stored_and_a_threshold_calls_no_model(tmp_path, monkeypatch) -> None:
    project = Spied(tmp_path, monkeypatch)
    project.edited(**raw(project))
    store = project.store
    rows = store.read_many(JUDGED, project.graph[JUDGED].partitions)
    crops = store.read_many("diffinpainting/inpainted_crops", project.graph[JUDGED].partitions)
    assert rows[["instance_id", "replica"]].to_numpy().tolist() == crops[["instance_id", "replica"]].to_numpy().tolist()
    assert rows["mask_iou"].between(0, 1).all()

    made = project.edited(gates={"min_mask_iou": 1.0})
    assert "mask_judges" not in made
    assert JUDGED not in made
    assert not project.painted
    windows = store.read("diffinpainting/is_cityscapes", "ashford|car")
    assert not windows["repainted"].any()
    assert windows["rejection"].str.startswith("mask_iou").all()
    # a judge trained elsewhere: no judge is trained here
    folder = store.folder("mask_judges", "ashford", "checkpoint")
    judge = project.raw["judge"] | {"masks": {"segmenter": "tiny", "min_score": 0.0, "checkpoint": str(folder)}}
    graph = build_graph(settings_for(tmp_path, **(project.raw | {"judge": judge})))
    assert "mask_judges" not in graph
    assert not [asset for asset, _ in graph[JUDGED].upstream("ashford|car") if asset == "mask_judges"]
