"""Windows: 2:1, inside, around the instance; lambda as the paper has it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import truncnorm

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import decode_png, encode_png, resize_ids
from instsynth_dagster.data.masks import encode_rle, mask_box
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import crop_box, cut_crop
from instsynth_dagster.synthesis.generators.failures import UNCHANGED
from instsynth_dagster.synthesis.synthetic_windows import misplaced_pixels, synthetic_window
from instsynth_dagster.synthesis.windows import (
    Window,
    cut_ids,
    paint_window,
    sample_window,
    synthetic_frame_id,
    truncated_normal,
)

SETTINGS = IntegrationSettings(window_size=(64, 32))


@st.composite
def cases(draw):
    width, height = draw(st.integers(4, 300)), draw(st.integers(4, 300))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return (x1, y1, draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))), width, height


@given(cases(), st.integers(0, 2**62))
def test_a_window_is_two_to_one_inside_and_contains_the_box(case, seed):
    (x1, y1, x2, y2), width, height = case
    window = sample_window((x1, y1, x2, y2), width, height, SETTINGS, seed)
    assert window.x2 - window.x1 == 2 * (window.y2 - window.y1) > 0
    assert window.x1 >= 0
    assert window.y1 >= 0
    assert window.x2 <= width
    assert window.y2 <= height
    contains = window.x1 <= x1 and window.y1 <= y1 and window.x2 >= x2 and window.y2 >= y2
    fits = max(y2 - y1, -(-(x2 - x1) // 2)) <= min(height, width // 2)
    assert window.contains_box == fits
    assert contains or not fits
    assert window == sample_window((x1, y1, x2, y2), width, height, SETTINGS, seed)


@pytest.mark.slow
def test_lambda_follows_the_truncated_normal():
    drawn = [sample_window((500, 300, 600, 340), 2048, 1024, SETTINGS, seed).scale for seed in range(1500)]
    assert min(drawn) >= 1
    np.testing.assert_allclose(np.mean(drawn), truncnorm.mean(-2, 417, loc=3, scale=1), atol=0.1)
    np.testing.assert_allclose(np.std(drawn), truncnorm.std(-2, 417, loc=3, scale=1), atol=0.1)


@given(st.floats(1e-9, 1, exclude_max=True), st.floats(-6, 6), st.floats(1e-3, 500))
def test_the_truncated_normal_is_scipy_s_to_the_last_bit(uniform, low, length):
    assert truncated_normal(uniform, low, low + length) == truncnorm.ppf(uniform, low, low + length)


def test_truncated_neighbours_become_groups_and_the_target_stays():
    ids = np.zeros((100, 200), np.int32)
    ids[40:60, 40:60] = 26000
    ids[40:60, 95:195] = 26001
    ids[0:30, 100:110] = 24000
    areas = {0: int((ids == 0).sum()), 26000: 400, 26001: 2000, 24000: 300}
    cut = cut_ids(ids, Window(0, 20, 100, 70, 3.0, True), SETTINGS, areas, target=26000, labels=CITYSCAPES)
    assert set(np.unique(cut)) == {0, 26, 26000}
    cut = cut_ids(ids, Window(0, 20, 100, 70, 3.0, True), SETTINGS, areas, target=26001, labels=CITYSCAPES)
    assert 26001 in cut


@st.composite
def resized_masks(draw):
    """A mask of a few specks, bars and boxes, and the size it is resized to."""
    height, width = draw(st.integers(4, 80)), draw(st.integers(4, 80))
    mask = np.zeros((height, width), bool)
    for _ in range(draw(st.integers(1, 4))):
        y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        mask[y : y + draw(st.integers(1, 30)), x : x + draw(st.integers(1, 30))] = True
    return mask, (draw(st.integers(4, 300)), draw(st.integers(4, 300)))


@given(resized_masks())
def test_no_resizing_misplaces_a_mask(case):
    mask, size = case
    assert misplaced_pixels(mask, resize_ids(mask.astype(np.int32), size) > 0) == 0


@pytest.mark.slow
@given(st.integers(3, 20), st.integers(4, 20), st.floats(1, 6), st.integers(0, 20), st.integers(0, 20))
def test_a_mask_that_is_lost_shifted_or_cut_is_seen(high, wide, scale, y, x):
    mask = np.zeros((50, 50), bool)
    mask[5 + y : 5 + y + high, 5 + x : 5 + x + wide] = True
    size = (round(50 * scale), round(50 * scale))
    resized = resize_ids(mask.astype(np.int32), size) > 0
    step = int(np.ceil(2.5 * scale))
    half = resized.copy()
    seen = (
        (np.arange(size[0]) + 0.5) * 50 / size[0]
    )  # source columns; two at least are lost, one of them not at the rim
    half[:, seen < 5 + x + wide // 2] = False
    for wrong in (np.zeros_like(resized), np.roll(resized, step, 0), np.roll(resized, -step, 1), half, ~resized):
        assert misplaced_pixels(mask, wrong) > 0


@given(
    seed=st.integers(0, 2**31),
    height=st.integers(8, 90),
    size=st.sampled_from([(64, 32), (128, 64), (18, 9)]),
    feather=st.floats(0, 3),
    color_match=st.sampled_from(["none", "mean_std"]),
)
def test_a_window_is_the_source_s_window_outside_the_exported_mask(seed, height, size, feather, color_match):
    """What is stored, decoded again, against the source's window by OpenCV alone."""
    rng = np.random.default_rng(seed)
    frame = rng.integers(0, 256, (height, 2 * height + 3, 3), dtype=np.uint8)
    ids = np.full(frame.shape[:2], 7, np.int32)
    y, x = int(rng.integers(0, height - 4)), int(rng.integers(0, 2 * height - 4))
    ids[y : y + int(rng.integers(1, height)), x : x + int(rng.integers(1, height))] = 26000
    ids[rng.random(ids.shape) < 0.1] = 23
    ids[y, x] = 26000
    box = mask_box(ids == 26000)
    square = crop_box(box, 0.25, frame.shape[1], height)
    crop, mask = cut_crop(frame, ids, 26000, square)
    row = {
        "instance_id": "a:26000",
        "frame_id": "a",
        "class_name": "car",
        "source_sha256": "0",
        "value": 26000,
        **dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)),
        **dict(zip(("crop_x1", "crop_y1", "crop_x2", "crop_y2"), square, strict=True)),
        "mask_counts": encode_rle(mask)["counts"],
        "slot": 0,
        "rejection": "",
        "repainted_png": encode_png(255 - crop),
    }
    settings = IntegrationSettings(window_size=size, feather=feather, color_match=color_match)
    window = synthetic_window(frame, ids, "a", 0, row, settings, seed, CITYSCAPES)
    stored, stored_ids = decode_png(window["image_png"]), decode_png(window["ids_png"])
    source = frame[window["window_y1"] : window["window_y2"], window["window_x1"] : window["window_x2"]]
    shrinks = source.shape[0] > size[1]
    plain = cv2.resize(source, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4)
    outside = stored_ids != 26000
    np.testing.assert_array_equal(stored[outside], plain[outside])
    assert window["outside_difference"] == 0
    assert window["repainted"] == (stored != plain).any()
    unpainted = synthetic_window(
        frame, ids, "a", 0, row | {"repainted_png": encode_png(crop)}, settings, seed, CITYSCAPES
    )
    if feather == 0 and color_match == "none":
        assert (unpainted["repainted"], unpainted["rejection"]) == (False, UNCHANGED)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**31),
    height=st.integers(16, 200),
    scale=st.floats(0.3, 5),
    left=st.floats(0, 0.9),
    top=st.floats(0, 0.9),
)
def test_the_part_that_is_painted_is_what_resizing_the_whole_window_gives(seed, height, scale, left, top):
    rng = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (height, 2 * height, 3), dtype=np.uint8), (0, 0), 1.0)
    size = (2 * round(height * scale), round(height * scale))
    shrinks = size[1] < height
    whole = cv2.resize(smooth, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4)
    mask = np.zeros(size[::-1], bool)
    y, x = int(top * size[1]), int(left * size[0])
    mask[y : y + max(1, size[1] // 3), x : x + max(1, size[0] // 4)] = True
    painted = paint_window(np.zeros_like(whole), smooth, Window(0, 0, 2 * height, height, 1.0, True), mask)
    assert not painted[~mask].any()
    assert np.abs(painted[mask].astype(int) - whole[mask]).max() <= 2


def test_names_are_parsable():
    assert synthetic_frame_id("aachen", 32, 7) == "aachensyn_000032_000007"
