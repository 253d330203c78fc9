"""Real instances in other frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.errors import DatasetError
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.copy_paste import copy_paste, first_with_room, target_frames
from instsynth_dagster.synthesis.synthetic_windows import masks_conserved, synthetic_window

SETTINGS = IntegrationSettings(window_size=(128, 64), feather=0)


def selected(rng: np.random.Generator, side: int, slot: int = 0) -> dict:
    """A red instance in a crop of blue."""
    mask = np.zeros((side, side), bool)
    low = side // 4
    mask[low : max(low + 1, 3 * low), low : max(low + 1, 2 * low)] = True
    crop = np.where(mask[..., None], np.array([200, 20, 20]), [10, 10, 200]).astype(np.uint8)
    bottom = int(rng.integers(1, 64))
    return {
        "instance_id": f"a:{side}",
        "frame_id": "a",
        "class_name": "car",
        "source_sha256": "0",
        "value": 26000,
        "x1": 0,
        "y1": 0,
        "x2": 5,
        "y2": bottom,
        "crop_x1": 0,
        "crop_y1": 0,
        "crop_x2": side,
        "crop_y2": side,
        "crop_png": encode_png(crop),
        "mask_counts": encode_rle(mask)["counts"],
        "slot": slot,
        "generator": "none",
        "repainted_png": None,
    }


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**20), side=st.integers(2, 200))
def test_only_the_instance_arrives_under_a_new_id(seed, side):
    rng = np.random.default_rng(seed)
    image = np.full((64, 128, 3), 90, np.uint8)
    ids = np.full((64, 128), 7, np.int32)
    ids[10:30, 20:60], ids[40:50, 0:30] = 26000, 24003
    composite, pasted, row = copy_paste(selected(rng, side), "b", image, ids, SETTINGS, seed, labels=CITYSCAPES)
    new = pasted == row["value"]
    assert row["value"] == 26001
    assert row["frame_id"] == "b"
    assert new.any()
    np.testing.assert_array_equal(pasted[~new], ids[~new])
    np.testing.assert_array_equal(composite[~new], image[~new])
    if side >= 16:  # resizing mixes colours along the edge, and smaller ones are all edge
        assert (composite[new][:, 0] > composite[new][:, 2]).mean() > 0.6
    rows, columns = np.flatnonzero(new.any(1)), np.flatnonzero(new.any(0))
    assert (row["x1"], row["y1"]) == (columns[0], rows[0])
    assert (row["x2"], row["y2"]) == (columns[-1] + 1, rows[-1] + 1)
    window = synthetic_window(composite, pasted, "town", 0, row, SETTINGS, seed, untouched=image, labels=CITYSCAPES)
    assert masks_conserved(window)
    assert window["outside_difference"] == 0
    assert not window["repainted"]
    composite[~new] += 1  # what is around an instance in the frame that it came from never gets into a window
    again = synthetic_window(composite, pasted, "town", 0, row, SETTINGS, seed, CITYSCAPES, untouched=image)
    assert again["outside_difference"] == 0


def test_place_and_frame_depend_on_content_alone():
    image, ids = np.zeros((64, 128, 3), np.uint8), np.full((64, 128), 7, np.int32)
    row = selected(np.random.default_rng(0), 20)
    first, again = (copy_paste(row, "b", image, ids, SETTINGS, 0, labels=CITYSCAPES)[2] for _ in range(2))
    other = copy_paste(row | {"slot": 1}, "b", image, ids, SETTINGS, 0, labels=CITYSCAPES)[2]
    assert first == again
    assert first["x1"] != other["x1"]
    frames = ["a", "b", "c"]
    chosen = {target_frames(row | {"slot": slot}, frames, 0)[0] for slot in range(20)}
    assert chosen == {"b", "c"}
    assert target_frames(row, ["a"], 0) == ["a"]


def test_a_frame_whose_numbers_are_all_used_is_passed_over():
    full = np.full((64, 128), 7, np.int32)
    full.flat[:1000] = 26000 + np.arange(1000)
    room = full.copy()
    room.flat[999] = 7
    row = selected(np.random.default_rng(0), 20)
    ids = {"a": full, "b": full, "c": room, "d": full}
    chosen, before = first_with_room(row, list(ids), 0, ids.__getitem__, CITYSCAPES)
    assert chosen == "c"
    image = np.zeros((64, 128, 3), np.uint8)
    assert copy_paste(row, chosen, image, before, SETTINGS, 0, CITYSCAPES)[2]["value"] == 26999
    with pytest.raises(DatasetError, match="all 2 frames of its city hold 1000 instances of car"):
        first_with_room(row, ["a", "b"], 0, ids.__getitem__, CITYSCAPES)
