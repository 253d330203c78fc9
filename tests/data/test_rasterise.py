"""Drawing annotated objects: overlaps, crowds, holes, parts, and what is not a segmentation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instsynth_dagster.data.labels import Label, LabelTable
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.data.rasterise import Annotation, draw, object_mask
from instsynth_dagster.errors import DatasetError
from tests.data.coco_trees import box

LABELS = LabelTable(
    tuple(
        Label(name, number, number > 0, False, (0, 0, 0)) for number, name in enumerate(("background", "cone", "dog"))
    )
)
SIZE = (40, 60)


def test_the_smaller_object_lies_on_top_and_what_the_larger_lost_is_counted() -> None:
    small, large = Annotation(1, [box(10, 10, 20, 20)]), Annotation(2, [box(0, 0, 30, 30)])
    drawn = draw([small, large], SIZE, LABELS, "smaller")
    assert (drawn.ids == 1000).sum() == 100
    assert (drawn.ids == 2000).sum() == 800
    assert (drawn.lost_pixels, drawn.overlapping, drawn.hidden, drawn.empty) == (100, 1, 0, 0)


def test_the_later_object_lies_on_top_where_the_file_says_the_order() -> None:
    small, large = Annotation(1, [box(10, 10, 20, 20)]), Annotation(2, [box(0, 0, 30, 30)])
    drawn = draw([small, large], SIZE, LABELS, "later")
    assert (drawn.ids == 2000).sum() == 900
    assert (drawn.lost_pixels, drawn.overlapping, drawn.hidden) == (100, 1, 1)
    assert draw([large, small], SIZE, LABELS, "later").lost_pixels == 100


def test_crowds_are_groups_below_everything() -> None:
    objects = [Annotation(1, [box(0, 0, 5, 5)], is_group=True), Annotation(2, [box(0, 0, 30, 30)])]
    drawn = draw([objects[1], objects[0]], SIZE, LABELS, "later")
    assert set(np.unique(drawn.ids)) == {0, 2000}
    assert drawn.lost_pixels == 0  # a group is no object that could lose pixels
    alone = draw([objects[0], Annotation(1, [box(10, 10, 12, 12)])], SIZE, LABELS, "smaller")
    assert {int(v): int((alone.ids == v).sum()) for v in np.unique(alone.ids)} == {0: 2371, 1: 25, 1000: 4}


def test_objects_are_numbered_by_class_and_empty_ones_take_no_number() -> None:
    outside, line = Annotation(1, [box(70, 50, 90, 60)]), Annotation(1, [[5, 5, 5, 5, 5, 5]])
    seen = [Annotation(1, [box(x, 0, x + 4, 4)]) for x in (0, 10, 20)]
    drawn = draw(
        [outside, seen[0], line, seen[1], Annotation(2, [box(30, 0, 34, 4)]), seen[2]], SIZE, LABELS, "smaller"
    )
    assert set(np.unique(drawn.ids)) == {0, 1000, 1001, 1002, 2000}
    assert drawn.empty == 2


def test_objects_that_stick_out_are_cut_off() -> None:
    assert object_mask([box(50, 30, 90, 90)], SIZE).sum() == 10 * 10
    assert object_mask([box(-1e9, -1e9, 1e9, 1e9)], SIZE).all()
    assert not object_mask([box(1e7, 1e7, 2e7, 2e7)], SIZE).any()


def test_parts_are_joined_and_holes_stay_holes() -> None:
    assert object_mask([box(0, 0, 5, 5), box(20, 20, 25, 25)], SIZE).sum() == 50
    ring = np.zeros(SIZE, bool)
    ring[5:25, 5:25] = True
    ring[10:15, 10:15] = False
    assert np.array_equal(object_mask(encode_rle(ring), SIZE), ring)


@settings(max_examples=50, deadline=None)
@given(arrays(bool, SIZE))
def test_a_run_length_code_is_its_mask_compressed_or_not(mask: np.ndarray) -> None:
    runs, value = [0], False
    for pixel in mask.ravel(order="F").tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    for code in (encode_rle(mask), {"size": list(SIZE), "counts": runs}):
        assert np.array_equal(object_mask(code, SIZE), mask)


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ({"size": [60, 40], "counts": [2400]}, "is of 40x60 pixels, its image has 60x40"),
        ({"size": [40, 60], "counts": [10, 20]}, "covers 30 of 2400 pixels"),
        ({"size": [40, 60], "counts": "0"}, "does not cover its 60x40 pixels"),
        ({"size": [40, 60], "counts": "\x7f\x7f"}, "does not cover"),
        ({"size": [40, 60]}, "neither polygons nor a run-length code"),
        ([[1, 2, 3, 4, 5, float("nan")]], "no pair of numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "no pair of numbers"),
        ([["a", "b", "c", "d", "e", "f"]], "neither polygons nor a run-length code"),
        (17, "neither polygons nor a run-length code"),
    ],
)
def test_what_is_no_segmentation_is_refused(segmentation, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        object_mask(segmentation, SIZE)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-300, 300), st.floats(-300, 300)), min_size=3, max_size=7))
def test_far_corners_change_nothing_inside(corners) -> None:
    polygon = np.array(corners, dtype=float)
    near = object_mask([polygon.ravel().tolist()], SIZE)
    from instsynth_dagster.data.rasterise import _clipped

    cut = object_mask([_clipped(polygon, 60, 40).ravel().tolist()], SIZE)
    assert (near ^ cut).sum() <= 2 * sum(SIZE)  # a pixel's rounding along the sides, never an area


def test_more_objects_than_the_coding_has_room_for_are_refused() -> None:
    dots = [Annotation(1, [box(i % 60, i // 60, i % 60 + 1, i // 60 + 1)]) for i in range(1001)]
    with pytest.raises(DatasetError, match="cone: an id map holds at most 1000"):
        draw(dots, SIZE, LABELS, "smaller")
