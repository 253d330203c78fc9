"""Crops: square, inside the frame, never black, never empty for ids divisible by 256."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.synthesis.crops import BACKGROUND, crop_box, cut_crop, focus


@st.composite
def boxes(draw):
    width, height = draw(st.integers(4, 120)), draw(st.integers(4, 120))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    return (x1, y1, x2, y2), width, height


@given(boxes(), st.floats(0, 1))
def test_crop_box_is_square_and_inside_where_it_fits(case, margin):
    box, width, height = case
    x1, y1, x2, y2 = crop_box(box, margin, width, height)
    side = x2 - x1
    assert side == y2 - y1 == max(1, round(max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * margin)))
    assert x1 <= box[0]
    assert x2 >= box[2]
    assert y1 <= box[1]
    assert y2 >= box[3]
    if side <= width:
        assert x1 >= 0
        assert x2 <= width
    if side <= height:
        assert y1 >= 0
        assert y2 <= height


@given(boxes(), st.floats(0, 1))
def test_a_crop_shows_the_whole_mask_and_no_black(case, margin):
    box, width, height = case
    image = np.full((height, width, 3), 200, np.uint8)
    ids = np.zeros((height, width), np.int32)
    ids[box[1] : box[3], box[0] : box[2]] = 32000
    crop, mask = cut_crop(image, ids, 32000, crop_box(box, margin, width, height))
    assert mask.sum() == (ids == 32000).sum()
    assert (crop == 200).all()
    assert crop.shape == (*mask.shape, 3)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 90), st.integers(0, 2**31))
def test_a_crop_beyond_the_frame_shows_its_reflection(width, height, beyond, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ids = np.random.default_rng(seed).integers(0, 2, (height, width), dtype=np.int32)
    left, top, right, bottom = -beyond, -(beyond // 2), width + beyond // 3, height + beyond
    crop, mask = cut_crop(image, ids, 1, (left, top, right, bottom))
    pads = (-top, bottom - height), (-left, right - width)
    np.testing.assert_array_equal(crop, np.pad(image, (*pads, (0, 0)), mode="reflect"))
    np.testing.assert_array_equal(mask, np.pad(ids == 1, pads))
    assert mask.dtype == bool


@pytest.mark.parametrize("value", [32000, 24064, 26112])
def test_ids_divisible_by_256_keep_their_mask(value):
    ids = np.zeros((20, 20), np.int32)
    ids[5:9, 5:9] = value
    _, mask = cut_crop(np.zeros((20, 20, 3), np.uint8), ids, value, (0, 0, 20, 20))
    assert mask.sum() == 16


def test_focus_fills_the_picture_with_the_instance():
    image = np.full((60, 60, 3), 9, np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[20:40, 25:35] = True
    image[mask] = (250, 0, 0)
    seen = focus(image, mask, margin=0, cut_out=True)
    assert seen.shape == image.shape
    ringing = 26  # of Lanczos at the edges
    assert np.abs(seen[:, 18:42].astype(int) - (250, 0, 0)).max() <= ringing
    assert np.abs(seen[:, :12].astype(int) - BACKGROUND).max() <= ringing
