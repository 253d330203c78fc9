"""The label table: coding, lookups, what it refuses; id maps wider than 16 bits through the store's PNGs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import decode_ids, encode_ids
from instsynth_dagster.data.instances import instance_areas, instance_index
from instsynth_dagster.data.labels import Label, LabelTable
from instsynth_dagster.errors import ArtifactError, DatasetError


def label(name: str, label_id: int, instances: bool = True, void: bool = False) -> Label:
    return Label(name, label_id, instances, void, (0, 0, 0))


CONES = LabelTable((label("background", 0, False), label("cone", 4711), label("void", 4712, False, True)), 100_000)


def test_values_are_coded_with_the_factor_of_the_table() -> None:
    assert CONES.instance_id(4711, 1234) == 471_101_234
    assert CONES.label_of(471_101_234).name == "cone"
    assert CONES.label_of(4711).name == "cone"  # a group
    ids = np.array([[0, 4711], [471_101_234, 4712]], np.int32)
    assert CONES.label_ids(ids).tolist() == [[0, 4711], [4711, 4712]]
    assert CONES.of_class(ids, "cone").tolist() == [[False, False], [True, False]]
    assert (CONES.unlabeled, CITYSCAPES.unlabeled) == (4712, 0)
    assert CONES.classes == ("cone",)


def test_an_index_of_four_digits_and_a_label_of_four_digits() -> None:
    ids = np.zeros((40, 60), np.int32)
    ids[:20] = np.arange(1200).reshape(20, 60) + CONES.instance_id(4711, 0)
    ids[30, :] = 4711
    index = instance_index(ids, CONES)
    assert len(index) == 1201
    assert set(index["class_name"]) == {"cone"}
    assert index["is_group"].sum() == 1
    assert instance_areas(ids)[CONES.instance_id(4711, 1199)] == 1


@pytest.mark.parametrize(
    ("labels", "factor", "problem"),
    [
        ([label("a", 1), label("a", 2)], 1000, "name 'a' occurs twice"),
        ([label("a", 1), label("b", 1)], 1000, "id 1 occurs twice"),
        ([label("a", 1000)], 1000, "ids must be 0 to 999"),
        ([label("a", -1)], 1000, "ids must be 0 to 999"),
        ([label("a", 30_000)], 100_000, "do not fit 32 bits"),
    ],
)
def test_tables_that_cannot_be_coded_are_refused(labels: list[Label], factor: int, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        LabelTable(tuple(labels), factor)


def test_the_thousandth_instance_is_a_clear_error() -> None:
    assert CITYSCAPES.instance_id(26, 999) == 26_999
    with pytest.raises(DatasetError, match="car: an id map holds at most 1000 of them"):
        CITYSCAPES.instance_id(26, 1000)


@given(st.lists(st.integers(0, (1 << 31) - 1), min_size=6, max_size=6))
def test_any_id_survives_its_png(values: list[int]) -> None:
    ids = np.array(values, np.int32).reshape(2, 3)
    again = decode_ids(encode_ids(ids))
    assert again.dtype == np.int32
    assert np.array_equal(again, ids)


def test_negative_ids_are_refused() -> None:
    with pytest.raises(ArtifactError, match="-1"):
        encode_ids(np.array([[-1]], np.int32))
