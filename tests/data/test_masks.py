"""Masks at other sizes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.masks import cover_mask


@given(st.integers(0, 2**31), st.integers(1, 90), st.integers(1, 90), st.integers(1, 6))
def test_a_covering_mask_loses_no_pixel_and_adds_none_that_it_does_not_touch(seed, side, other, count):
    """The oracle is the overlap of the squares that pixels are, in exact whole numbers."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), bool)
    mask[rng.integers(0, side, count), rng.integers(0, side, count)] = True
    covered = cover_mask(mask, other)
    starts, ends = np.arange(side) * other, np.arange(1, side + 1) * other  # in units of 1 / (side * other)
    first, last = np.arange(other) * side, np.arange(1, other + 1) * side
    touches = (first[:, None] < ends) & (last[:, None] > starts)
    reached = np.einsum("yi,ij,xj->yx", touches, mask, touches)
    assert not (covered & ~reached).any()
    if other <= side:
        np.testing.assert_array_equal(covered, reached)
    for y, x in zip(*np.nonzero(mask), strict=True):
        assert covered[np.ix_(touches[:, y], touches[:, x])].any()
