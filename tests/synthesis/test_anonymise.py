"""Nothing that is hidden depends on what was there, and what is left is found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.settings import AnonymiseSettings, IntegrationSettings
from instsynth_dagster.synthesis.anonymise import (
    anonymised_frame,
    changed_outside,
    coarsened,
    covered,
    filled_from_outside,
    hidden_parts,
    outcomes,
)
from instsynth_dagster.synthesis.survivors import GROUP, compare, sentence

HEIGHT, WIDTH = 60, 90
ROAD, CROWD, BICYCLE = 7, 24, 33000
HIDDEN = ("person", "rider")


def section(**changes) -> AnonymiseSettings:
    return AnonymiseSettings(generator="any", classes=HIDDEN, **changes)


@st.composite
def frames(draw) -> tuple[np.ndarray, np.ndarray]:
    """A frame of noise, in which everything tells, with people at the border, on each other, groups, and a bicycle."""
    image = np.random.default_rng(draw(st.integers(0, 999))).integers(10, 245, (HEIGHT, WIDTH, 3), np.uint8)
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    for value in draw(st.lists(st.sampled_from([24000, 24001, 25000, CROWD, BICYCLE]), min_size=1, max_size=5)):
        y, x = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
        ids[y : y + draw(st.integers(1, 40)), x : x + draw(st.integers(1, 40))] = value
    return image, ids


modes = st.builds(
    section,
    otherwise=st.sampled_from(["pixelate", "blur"]),
    dilation=st.integers(0, 6),
    cells=st.integers(1, 9),
)


def repainting(ids: np.ndarray, value: int, seed: int = 0) -> dict:
    side = max(HEIGHT, WIDTH)
    mask = np.zeros((side, side), bool)
    mask[:HEIGHT, :WIDTH] = ids == value
    painted = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    box = {"crop_x1": 0, "crop_y1": 0, "crop_x2": side, "crop_y2": side}
    return {"value": value, "mask_counts": encode_rle(mask)["counts"], "repainted_png": encode_png(painted)} | box


@given(frames(), modes, st.booleans())
def test_nothing_survives_in_a_frame_and_nothing_else_changes(frame, settings, painted):
    image, ids = frame
    parts = hidden_parts(ids, CITYSCAPES, HIDDEN)
    rows = [repainting(ids, value) for value in np.unique(ids).tolist() if value // 1000 in (24, 25) and painted]
    made = anonymised_frame(image, parts, rows, settings, IntegrationSettings())
    hidden = np.isin(CITYSCAPES.label_ids(ids), [24, 25])
    region = distance_transform_edt(~hidden) <= settings.dilation if hidden.any() else hidden
    np.testing.assert_array_equal(covered(ids.shape, parts, settings.dilation), region)
    np.testing.assert_array_equal(made[~region], image[~region])
    assert changed_outside(image, made, parts, settings.dilation) == 0
    found = compare(image, made, ids, CITYSCAPES, HIDDEN, settings)
    assert found.survivors == ()
    assert found.hidden == region.sum()
    assert sentence("f", found, CITYSCAPES) == ""


@given(frames(), modes, st.integers(0, 99))
def test_rims_and_repaintings_do_not_know_what_was_there(frame, settings, seed):
    """Another source inside the region gives the same frame, but for what is coarse and the soft edges on it."""
    image, ids = frame
    parts = hidden_parts(ids, CITYSCAPES, HIDDEN)
    hidden = np.isin(CITYSCAPES.label_ids(ids), [24, 25])
    region = covered(ids.shape, parts, settings.dilation)
    if region.all():
        return
    other = image.copy()
    other[region] = np.random.default_rng(seed).integers(0, 256, (int(region.sum()), 3))
    rows = [repainting(ids, value) for value in np.unique(ids).tolist() if value // 1000 in (24, 25)]
    hard = IntegrationSettings(feather=0)
    one, two = (anonymised_frame(source, parts, rows, settings, hard) for source in (image, other))
    coarse = hidden & (ids < 1000)
    np.testing.assert_array_equal(one[~coarse], two[~coarse])


@given(frames(), st.integers(1, 9))
def test_a_pixelated_object_keeps_a_few_colours_of_at_least_sixteen_pixels_each(frame, cells):
    image, ids = frame
    settings = section(cells=cells)
    made = coarsened(image, hidden_parts(ids, CITYSCAPES, HIDDEN), settings)
    for part in hidden_parts(ids, CITYSCAPES, HIDDEN):
        x1, y1, x2, y2 = part.box
        colours = np.unique(made[y1:y2, x1:x2][part.mask], axis=0)
        longer = max(x2 - x1, y2 - y1)
        assert len(colours) <= max(1, longer // max(4, -(-longer // cells))) ** 2
        # the mean of sixteen or more uniform values is far from most of them
        assert (made[y1:y2, x1:x2] == image[y1:y2, x1:x2]).all(2)[part.mask].mean() <= 0.2 or part.mask.sum() < 10


@pytest.mark.parametrize("otherwise", ["pixelate", "blur"])
@pytest.mark.parametrize("box", [(20, 30, 50, 45), (0, 0, 12, 9), (55, 80, 60, 90), (30, 40, 32, 41)])
def test_one_untouched_object_or_half_of_it_is_found(otherwise, box):
    image = np.random.default_rng(3).integers(10, 245, (HEIGHT, WIDTH, 3), np.uint8)
    y1, x1, y2, x2 = box
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    ids[y1:y2, x1:x2] = 24003
    settings = section(otherwise=otherwise)
    made = anonymised_frame(image, hidden_parts(ids, CITYSCAPES, HIDDEN), [], settings, IntegrationSettings())
    for left in (ids == 24003, (ids == 24003) & (np.arange(HEIGHT) < (y1 + y2 + 1) // 2)[:, None]):
        leaking = np.where(left[..., None], image, made)
        found = compare(image, leaking, ids, CITYSCAPES, HIDDEN, settings)
        if left.sum() >= min(GROUP, found.informative // 2 + 1):
            assert [survivor.value for survivor in found.survivors] == [24003]
            assert "24003 (person)" in sentence("f", found, CITYSCAPES)


def test_a_rim_that_was_left_is_found_and_so_is_a_change_elsewhere():
    image = np.random.default_rng(4).integers(10, 245, (HEIGHT, WIDTH, 3), np.uint8)
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    ids[20:50, 30:45], ids[20:50, 46:60] = 24000, BICYCLE
    settings = section(dilation=2)
    parts = hidden_parts(ids, CITYSCAPES, HIDDEN)
    made = anonymised_frame(image, parts, [repainting(ids, 24000)], settings, IntegrationSettings())
    rim = covered(ids.shape, parts, 2) & (ids != 24000)
    leaking = np.where(rim[..., None], image, made)
    assert compare(image, leaking, ids, CITYSCAPES, HIDDEN, settings).survivors
    spoilt = made.copy()
    spoilt[0, 0] ^= 1
    found = compare(image, spoilt, ids, CITYSCAPES, HIDDEN, settings)
    assert found.changed_outside == 1
    assert "1 pixels changed" in sentence("f", found, CITYSCAPES)


def test_a_soft_edge_fades_into_what_is_coarse():
    """A white person, painted black: no pixel of its edge is lighter than the mean of the person."""
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    ids[16:46, 30:48] = 24000
    image[ids == 24000] = np.random.default_rng(0).choice([60, 250], ((ids == 24000).sum(), 1)).astype(np.uint8)
    parts = hidden_parts(ids, CITYSCAPES, HIDDEN)
    row = repainting(ids, 24000)
    row["repainted_png"] = encode_png(np.zeros((max(HEIGHT, WIDTH),) * 2 + (3,), np.uint8))
    made = anonymised_frame(image, parts, [row], section(), IntegrationSettings(feather=3))
    assert made[ids == 24000].max() < 185


def test_a_flat_wall_that_goes_on_behind_a_head_is_no_survivor():
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[:, 40:44] = (200, 30, 30)
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    ids[30:50, 36:48] = 24000
    image[ids == 24000] = (20, 60, 200)
    settings = section()
    made = anonymised_frame(image, hidden_parts(ids, CITYSCAPES, HIDDEN), [], settings, IntegrationSettings())
    assert (made == image).all(2)[covered(ids.shape, hidden_parts(ids, CITYSCAPES, HIDDEN), 3)].sum() > GROUP
    assert compare(image, made, ids, CITYSCAPES, HIDDEN, settings).survivors == ()


def test_what_lies_nearest_outside_is_found_and_a_frame_without_outside_keeps_nothing():
    rng = np.random.default_rng(5)
    image, region = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), bool)
    region[10:20, :] = True
    filled = filled_from_outside(image, region)
    np.testing.assert_array_equal(filled[10:14], np.repeat(image[9:10], 4, axis=0))
    np.testing.assert_array_equal(filled[16:20], np.repeat(image[20:21], 4, axis=0))
    whole = np.full((HEIGHT, WIDTH), 24000, np.int32)
    whole[0, 0] = ROAD
    settings = section(cells=1)
    made = anonymised_frame(image, hidden_parts(whole, CITYSCAPES, HIDDEN), [], settings, IntegrationSettings())
    assert len(np.unique(made.reshape(-1, 3), axis=0)) <= 2
    assert compare(image, image, whole, CITYSCAPES, HIDDEN, settings).survivors


def test_every_object_is_told_with_what_became_of_it_and_why():
    ids = np.full((HEIGHT, WIDTH), ROAD, np.int32)
    ids[:10, :10], ids[:10, 20:30], ids[:3, 40:42], ids[20:30, :10], ids[40:50, 40:50] = 24000, 24001, 24002, 24, 25000
    parts = hidden_parts(ids, CITYSCAPES, HIDDEN)
    rows = [
        {"value": 24000, "repainted_png": b"...", "rejection": ""},
        {"value": 24001, "repainted_png": None, "rejection": "change 0.001 below 0.02"},
    ]
    found = {
        one.value: (one.class_name, one.how, one.why)
        for one in outcomes(parts, rows, CITYSCAPES, ["person"], section())
    }
    assert found == {
        24: ("person", "pixelated", "a group"),
        24000: ("person", "repainted", ""),
        24001: ("person", "pixelated", "change 0.001 below 0.02"),
        24002: ("person", "pixelated", "too small"),
        25000: ("rider", "pixelated", "its class is not painted"),
    }
