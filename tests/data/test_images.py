"""Images as artifacts hold them."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from instsynth_dagster.data.images import decode_png, encode_png, encode_stored, png_size, resize_image


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


@given(
    data=st.data(),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    kind=st.sampled_from([("uint8", 3), ("uint8", None), ("uint16", None)]),
    portable=st.booleans(),
)
def test_any_reader_finds_what_was_encoded(data, height, width, kind, portable):
    """Pillow is the other reader; strides of a view are no obstacle."""
    dtype, channels = kind
    shape = (height, 2 * width) if channels is None else (height, 2 * width, channels)
    values = data.draw(st.binary(min_size=4 * height * width * 3 * 2, max_size=4 * height * width * 3 * 2))
    array = np.frombuffer(values, dtype)[: int(np.prod(shape))].reshape(shape)[:, ::2]
    png = encode_png(array, portable)
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        image.verify()
    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        np.testing.assert_array_equal(np.asarray(image), array)
    np.testing.assert_array_equal(decode_png(png), array)
    assert png_size(png) == (width, height)
