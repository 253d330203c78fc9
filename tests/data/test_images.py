"""Images as artifacts hold them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from instsynth_dagster.data.images import decode_png, encode_stored, resize_image


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth, as enlarged photographs are, and coloured."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 24, 3), dtype=np.uint8)
    return resize_image(coarse, (192, 96))


@pytest.mark.parametrize("form", ["png", "webp"])
def test_a_form_without_loss_gives_back_every_pixel(picture, form):
    np.testing.assert_array_equal(decode_png(encode_stored(picture, form)), picture)


def test_jpeg_is_close_and_much_smaller(picture):
    data = encode_stored(picture, "jpeg")
    assert np.abs(decode_png(data).astype(int) - picture).mean() < 2
    assert len(data) < len(encode_stored(picture, "png")) / 2


@pytest.mark.parametrize(("form", "beginning"), [("png", b"\x89PNG"), ("webp", b"RIFF"), ("jpeg", b"\xff\xd8")])
def test_each_form_is_what_it_says(picture, form, beginning):
    data = encode_stored(picture, form)
    assert data.startswith(beginning)
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == picture.shape
