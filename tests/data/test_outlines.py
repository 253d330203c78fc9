"""Polygons that fill to exactly the mask that they were made from."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instsynth_dagster.data.outlines import exact_polygon, rings
from instsynth_dagster.data.rasterise import object_mask
from tests.data.opened import rectangle


@settings(max_examples=80, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))))
def test_filling_gives_the_mask_back(mask: np.ndarray) -> None:
    polygon = exact_polygon(mask)
    assert bool(polygon) == mask.any()
    height, width = mask.shape
    assert np.array_equal(object_mask([polygon], mask.shape) if polygon else np.zeros_like(mask), mask)
    rounded = [round(v / (width, height)[i % 2], 6) * (width, height)[i % 2] for i, v in enumerate(polygon)]
    assert np.array_equal(object_mask([rounded], mask.shape) if polygon else np.zeros_like(mask), mask)


def test_holes_parts_and_corners() -> None:
    ring = rectangle(4, 4, 14, 14) & ~rectangle(6, 6, 9, 9)
    assert sorted(map(len, rings(ring))) == [4, 4]
    assert exact_polygon(rectangle(4, 5, 14, 15)) == [4, 5, 14, 5, 14, 15, 4, 15]
    both = ring | rectangle(40, 30, 60, 40)
    assert np.array_equal(object_mask([exact_polygon(both)], both.shape), both)
