"""Crops for people: every class and every reason, few of each, all counted."""

from __future__ import annotations

import numpy as np
import pytest

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.evaluation.report.crops import ACCEPTED, crop_gallery, gate_of
from instsynth_dagster.settings import GateSettings
from instsynth_dagster.synthesis.gates import SCORE_ASSETS
from tests.evaluation.report.test_gate_gallery import MASK, tables

GATES = GateSettings(min_class_margin=0.0)
MARGINS = {"a|car": [0.1] * 9 + [-0.1] * 9, "a|bus": [], "b|car": [0.2, -0.3], "b|bus": [0.4]}


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path)
    for partition, values in MARGINS.items():
        selected, crops, scores = (
            table.assign(instance_id=partition + table["instance_id"].astype(str)) for table in tables(values)
        )
        crops = crops.assign(class_name=partition.split("|")[1], prompt="a photo", failure="")
        assets = ("selected_instances", "g/inpainted_crops", "g/crop_quality")
        for asset, table in zip(assets, (selected, crops, scores), strict=True):
            with store.write(asset, partition, "f" * 64) as out:
                out.add_table(table)
    return store


def test_some_of_each_class_and_verdict_are_shown_and_all_are_counted(store):
    gallery = crop_gallery(store, "g", list(MARGINS), judged=SCORE_ASSETS[:1], gates=GATES)
    assert gallery.counts.columns.tolist() == ["class_name", "crops", ACCEPTED, "class_margin"]
    assert gallery.counts.to_numpy().tolist() == [["car", 20, 10, 10], ["bus", 1, 1, 0], ["total", 21, 11, 10]]
    kinds = [(crop.class_name, crop.verdict) for crop in gallery.crops]
    assert kinds == [("car", ACCEPTED)] * 6 + [("car", "class_margin")] * 4 + [("bus", ACCEPTED)]
    assert gallery.crops[6].reason == "class_margin -0.100 below 0"
    np.testing.assert_array_equal(gallery.crops[0].source.shape, (*MASK.shape, 3))


def test_a_second_opinion_is_counted_as_a_gate_of_its_own(store):
    crops = store.read("g/inpainted_crops", "a|car")
    with store.write("g/mask_agreement", "a|car", "f" * 64) as out:
        out.add_table(crops[["instance_id", "replica"]].assign(mask_iou=[0.9, 0.1] + [0.9] * 16))
    gallery = crop_gallery(store, "g", ["a|car"], SCORE_ASSETS, GateSettings(min_class_margin=0.0, min_mask_iou=0.5))
    assert gallery.counts.columns.tolist() == ["class_name", "crops", ACCEPTED, "class_margin", "mask_iou"]
    assert gallery.counts.iloc[-1].tolist() == ["total", 18, 8, 9, 1]


def test_without_a_judge_only_failed_crops_are_rejected(store):
    gallery = crop_gallery(store, "g", list(MARGINS), judged=(), gates=GATES)
    assert gallery.counts.columns.tolist() == ["class_name", "crops", ACCEPTED]
    assert all(crop.verdict == ACCEPTED for crop in gallery.crops)


@pytest.mark.parametrize(
    ("reason", "gate"),
    [
        ("", ACCEPTED),
        ("change 0.01 below 0.02", "change"),
        ("mask_iou 0.1 below 0.5", "mask_iou"),
        ("one colour", "one colour"),
    ],
)
def test_a_reason_is_known_by_its_gate(reason, gate):
    assert gate_of(reason) == gate
