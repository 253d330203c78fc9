from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.evaluation.report.gallery import (
    contact_sheet,
    data_uri,
    display_color,
    overlay_instances,
    overlay_predictions,
    shrink,
    thumbnail_markdown,
)
from tests.evaluation.metrics.random_streets import prediction_table

CAR = CITYSCAPES.by_name["car"].id


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)


def bus_box() -> np.ndarray:
    mask = np.zeros((120, 200), dtype=bool)
    mask[60:100, 80:150] = True
    return mask


def test_an_instance_is_tinted_and_the_rest_untouched(photo) -> None:
    ids = np.where(bus_box(), CAR * 1000, 7).astype(np.int32)
    before = photo.copy()
    drawn = overlay_instances(photo, ids, named=False, labels=CITYSCAPES)
    np.testing.assert_array_equal(photo, before)
    assert drawn.shape == photo.shape
    changed = (drawn != photo).any(axis=-1)
    assert changed[62:98, 82:148].mean() > 0.95
    far = np.ones_like(changed)
    far[58:102, 78:152] = False
    assert not changed[far].any()


def test_nothing_to_draw_leaves_the_image(photo) -> None:
    np.testing.assert_array_equal(overlay_instances(photo, np.full((120, 200), 7, np.int32), labels=CITYSCAPES), photo)
    np.testing.assert_array_equal(overlay_predictions(photo, prediction_table("f", []), labels=CITYSCAPES), photo)
    weak = prediction_table("f", [("bus", 0.2, bus_box())])
    np.testing.assert_array_equal(overlay_predictions(photo, weak, labels=CITYSCAPES), photo)
    assert (overlay_predictions(photo, weak, min_score=0.1, labels=CITYSCAPES) != photo).any()


def test_groups_and_names_are_drawn(photo) -> None:
    group = np.where(bus_box(), CAR, 7).astype(np.int32)
    plain, named = (
        overlay_instances(photo, group, named=False, labels=CITYSCAPES),
        overlay_instances(photo, group, labels=CITYSCAPES),
    )
    tag = (plain != named).any(axis=-1)
    assert tag[:60].any()
    assert not tag[62:].any()


def test_names_stay_inside_even_a_tiny_image() -> None:
    ids = np.full((20, 12), CAR * 1000, dtype=np.int32)
    assert overlay_instances(np.zeros((20, 12, 3), np.uint8), ids, labels=CITYSCAPES).shape == (20, 12, 3)


def test_class_colours_can_be_seen_on_dark_ground() -> None:
    assert min(max(display_color(CITYSCAPES[name].color)) for name in CITYSCAPES.classes) > 180


def test_contact_sheet_holds_every_image_whole() -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (rng.integers(20, 40), rng.integers(20, 60), 3), dtype=np.uint8) for _ in range(5)]
    sheet = contact_sheet(images, 3, [f"a photo of a very long red car number {n}" for n in range(5)])
    for image in images:
        height, width = image.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(sheet, (height, width, 3))[:, :, 0]
        corner = np.argwhere((windows[:, :, 0, 0] == image[0, 0]).all(axis=-1))
        assert any(windows[y, x].tobytes() == image.tobytes() for y, x in corner)


def test_contact_sheet_of_nothing() -> None:
    assert contact_sheet([], 4).shape[2] == 3


@pytest.mark.slow
def test_markdown_stays_small_and_decodes() -> None:
    noise = np.random.default_rng(2).integers(0, 256, (512, 1024, 3), dtype=np.uint8)
    text = thumbnail_markdown(noise, width=900)
    assert len(text) < 60_000
    assert text.startswith("![preview](data:image/webp;base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(text.split("base64,")[1].rstrip(")"))))
    assert picture.width <= 900
    assert picture.width == pytest.approx(2 * picture.height, abs=2)


def test_data_uri_keeps_the_picture(photo) -> None:
    smooth = shrink(photo, 50).repeat(4, axis=0).repeat(4, axis=1)
    decoded = np.array(Image.open(io.BytesIO(base64.b64decode(data_uri(smooth, 95).split(",")[1]))))
    assert np.abs(decoded.astype(int) - smooth).mean() < 12
    assert shrink(photo, 999) is photo
