"""The index of an id map, against a look at one value after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.instances import instance_areas, instance_index

VALUES = [0, 7, 24, 26, 24000, 24256, 26000, 26001, 33000]
MAPS = arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 7)), elements=st.sampled_from(VALUES))


@given(ids=MAPS)
def test_every_value_has_its_pixels_and_its_box(ids: np.ndarray) -> None:
    assert instance_areas(ids) == {value: int((ids == value).sum()) for value in np.unique(ids).tolist()}
    rows = instance_index(ids, CITYSCAPES).set_index("value")
    assert rows.index.tolist() == sorted(v for v in instance_areas(ids) if v not in (0, 7))
    for value, row in rows.iterrows():
        ys, xs = np.nonzero(ids == value)
        assert row[["area", "x1", "y1", "x2", "y2"]].tolist() == [
            *(len(xs), xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        ]


@pytest.mark.parametrize("extreme", [-3, 2**31 - 1])
def test_values_that_no_table_is_made_for_are_counted_too(extreme: int) -> None:
    assert instance_areas(np.array([[1, extreme], [extreme, 1], [1, 1]], np.int32)) == dict(
        sorted([(1, 4), (extreme, 2)])
    )


def test_an_empty_map_has_no_values() -> None:
    assert instance_areas(np.zeros((0, 4), np.int32)) == {}
