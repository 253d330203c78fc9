"""Pasting changes the mask and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import crop_box, cut_crop
from instsynth_dagster.synthesis.integration import feathered_alpha, match_colors, outside_difference, paste


def scene(seed: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    x1, y1 = int(rng.integers(0, width - 1)), int(rng.integers(0, height - 1))
    x2, y2 = int(rng.integers(x1 + 1, width + 1)), int(rng.integers(y1 + 1, height + 1))
    ids = np.zeros((height, width), np.int32)
    ids[y1:y2, x1:x2] = np.where(rng.random((y2 - y1, x2 - x1)) < 0.8, 26000, 0)
    ids[y1, x1] = 26000
    return image, ids, (x1, y1, x2, y2)


@given(
    seed=st.integers(0, 2**31),
    width=st.integers(2, 60),
    height=st.integers(2, 60),
    size=st.integers(1, 40),
    feather=st.floats(0, 4),
    match=st.sampled_from(["none", "mean_std"]),
)
def test_outside_the_mask_every_pixel_is_the_source(seed, width, height, size, feather, match):
    image, ids, box = scene(seed, width, height)
    crop = crop_box(box, 0.3, width, height)
    _, mask = cut_crop(image, ids, 26000, crop)
    before = image.copy()
    painted = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    composite = paste(image, painted, mask, crop, IntegrationSettings(feather=feather, color_match=match))
    assert outside_difference(image, composite, ids == 26000) == 0
    np.testing.assert_array_equal(image, before)


def test_a_hard_paste_replaces_the_whole_mask():
    image = np.zeros((40, 60, 3), np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[4:16, 6:12] = True
    composite = paste(image, np.full((20, 20, 3), 90, np.uint8), mask, (30, 10, 50, 30), IntegrationSettings(feather=0))
    changed = (composite == 90).all(axis=2)
    assert changed.sum() == mask.sum()
    assert changed[14:26, 36:42].all()


@pytest.mark.parametrize("place", [(0, 3), (5, 3), (3, 0), (3, 5), (3, 2)])
def test_outside_difference_sees_a_leak_wherever_it_is(place):
    image = np.zeros((6, 6, 3), np.uint8)
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4], mask[3, 2] = True, False
    leaked = image.copy()
    leaked[mask] = 200
    assert outside_difference(image, leaked, mask) == 0
    leaked[*place, 1] = 7
    assert outside_difference(image, leaked, mask) == 7
    assert outside_difference(image, leaked, np.zeros((6, 6), bool)) == 200
    assert outside_difference(image, leaked, np.ones((6, 6), bool)) == 0


def test_alpha_rises_inside_the_mask_only():
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    alpha = feathered_alpha(mask, 3)
    assert alpha[~mask].max() == 0
    assert 0 < alpha[5, 15] < alpha[6, 15] < alpha[7, 15] < alpha[8, 15] == 1


@pytest.mark.parametrize("offset", [-40, 40])
def test_color_match_is_signed(offset):
    source = np.random.default_rng(0).integers(80, 160, (40, 40, 3)).astype(np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    matched = match_colors((source.astype(int) + offset).astype(np.uint8), source, mask)
    np.testing.assert_allclose(matched.astype(int), source, atol=2)
