import re

import numpy as np
import pytest

from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.composite_frames import composite_frame, composite_frame_id
from instsynth_dagster.synthesis.crops import crop_box, cut_crop

HARD = IntegrationSettings(feather=0)
BOXES = {26000: (10, 12, 30, 24), 26001: (24, 16, 50, 30), 24256: (60, 8, 66, 28)}
"""The first two overlap; the second lies in front."""


@pytest.fixture
def frame():
    ids = np.full((40, 80), 7, np.int32)
    for value, (x1, y1, x2, y2) in BOXES.items():
        ids[y1:y2, x1:x2] = value
    return np.random.default_rng(0).integers(0, 200, (40, 80, 3), dtype=np.uint8), ids


def row(frame, value, color, slot=0):
    image, ids = frame
    box = crop_box(BOXES[value], 0.25, 80, 40)
    _, mask = cut_crop(image, ids, value, box)
    painted = None if color is None else encode_png(np.full((24, 24, 3), color, np.uint8))
    named = dict(zip(("crop_x1", "crop_y1", "crop_x2", "crop_y2"), box, strict=True))
    return named | {
        "instance_id": f"a_000000_000019:{value}",
        "frame_id": "a_000000_000019",
        "source_sha256": "s",
        "class_name": "thing",
        "value": value,
        "slot": slot,
        "mask_counts": encode_rle(mask)["counts"],
        "repainted_png": painted,
        "generator": "g",
        "prompt": f"in {color}",
        "seed": value,
    }


def test_all_accepted_repaintings_are_in_and_nothing_else_changed(frame):
    rows = [row(frame, 26000, (250, 0, 0)), row(frame, 26001, (0, 250, 0)), row(frame, 24256, None)]
    made = composite_frame(*frame, "asyn_000003_000000", 0, rows, HARD)
    image, ids = decode_png(made["image_png"]), decode_png(made["ids_png"])
    source, truth = frame
    np.testing.assert_array_equal(ids, truth)
    assert (image[truth == 26000] == (250, 0, 0)).all()
    assert (image[truth == 26001] == (0, 250, 0)).all()
    rest = ~np.isin(truth, (26000, 26001))
    np.testing.assert_array_equal(image[rest], source[rest])
    assert (made["outside_difference"], made["changed_ids"]) == (0, 0)
    assert made["instance_ids"] == ["a_000000_000019:26000", "a_000000_000019:26001"]
    assert made["prompts"] == ["in (250, 0, 0)", "in (0, 250, 0)"]
    assert made["source_frame"] == "a_000000_000019"
    np.testing.assert_array_equal(source, frame[0])


def test_the_order_of_the_rows_does_not_matter(frame):
    rows = [row(frame, value, (value % 250, 9, 9)) for value in BOXES]
    one, two = (composite_frame(*frame, "f", 0, given, IntegrationSettings()) for given in (rows, rows[::-1]))
    assert one["image_sha256"] == two["image_sha256"]


def test_each_slot_is_a_frame_of_its_own_and_one_without_repaintings_is_none(frame):
    rows = [row(frame, 26000, (250, 0, 0)), row(frame, 26000, (0, 0, 250), slot=1), row(frame, 26001, None, slot=1)]
    first, second = (composite_frame(*frame, "f", slot, rows, HARD) for slot in (0, 1))
    assert first["image_sha256"] != second["image_sha256"]
    assert first["ids_sha256"] == second["ids_sha256"]
    assert composite_frame(*frame, "f", 2, rows, HARD) is None
    assert composite_frame(*frame, "f", 0, [row(frame, 26000, None)], HARD) is None


def test_names_can_be_exported():
    assert re.fullmatch(r"[a-z]+_\d{6}_\d{6}", composite_frame_id("ulm", 12, 1))
