from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from instsynth_dagster.data.masks import decode_rle, encode_rle
from instsynth_dagster.data.pixel_runs import IdRuns, decode_runs

sizes = st.tuples(st.integers(1, 23), st.integers(1, 23))


def painted(runs, owner: int, size: tuple[int, int]) -> np.ndarray:
    flat = np.zeros(size[0] * size[1], dtype=bool)
    for start, stop in zip(runs.start[runs.owner == owner], runs.stop[runs.owner == owner], strict=True):
        assert not flat[start:stop].any()
        flat[start:stop] = True
    return flat.reshape(size[::-1]).T


@settings(max_examples=60, deadline=None)
@given(st.data(), sizes)
def test_runs_are_the_masks(data, size) -> None:
    masks = data.draw(st.lists(arrays(bool, size), max_size=4))
    runs = decode_runs([encode_rle(mask)["counts"] for mask in masks])
    assert runs.sizes.tolist() == [mask.size for mask in masks]
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(painted(runs, index, size), mask)


@settings(max_examples=60, deadline=None)
@given(st.data(), sizes)
def test_overlaps_are_pixel_counts(data, size) -> None:
    ids = data.draw(arrays(np.int32, size, elements=st.sampled_from([7, 24, 26000, 26001, 32000])))
    masks = data.draw(st.lists(arrays(bool, size), max_size=4))
    truth = IdRuns.of(ids)
    under = truth.under(decode_runs([encode_rle(mask)["counts"] for mask in masks]))
    assert truth.values.tolist() == np.unique(ids).tolist()
    assert truth.areas.tolist() == [(ids == value).sum() for value in truth.values]
    assert under.tolist() == [[(mask & (ids == value)).sum() for value in truth.values] for mask in masks]


@settings(max_examples=40, deadline=None)
@given(arrays(np.int32, sizes, elements=st.integers(0, 3)))
def test_rle_of_a_value(ids) -> None:
    truth = IdRuns.of(ids)
    for value in range(4):
        rle = truth.rle(value)
        np.testing.assert_array_equal(decode_rle({**rle, "counts": rle["counts"].decode()}), ids == value)


def test_long_runs_and_far_jumps() -> None:
    mask = np.zeros((1024, 2048), dtype=bool)
    mask[3, 5] = mask[1000, 2040] = True
    mask[:, 700:1500] = True
    runs = decode_runs([encode_rle(mask)["counts"]] * 2)
    np.testing.assert_array_equal(painted(runs, 1, mask.shape), mask)
