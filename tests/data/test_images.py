"""Images as artifacts hold them."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from instsynth_dagster.data.images import (
    decode_ids,
    decode_png,
    encode_ids,
    encode_png,
    encode_stored,
    png_size,
    resize_image,
)
from instsynth_dagster.errors import ArtifactError


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
    decoded = decode_png(png)
    np.testing.assert_array_equal(decoded, array)
    assert decoded.dtype == array.dtype
    assert png_size(png) == (width, height)


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_files_of_other_writers_are_read(picture, mode):
    image = Image.fromarray(picture if mode == "RGB" else picture[..., 0].astype(np.uint16 if mode == "I;16" else "u1"))
    file = io.BytesIO()
    image.save(file, "PNG")
    np.testing.assert_array_equal(decode_png(file.getvalue()), np.asarray(image))


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_damaged_file_is_never_another_picture(place, bit):
    """It is the picture, what OpenCV decodes, or an error: a wrong checksum leaves the file to OpenCV."""
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    png = bytearray(encode_png(array))
    png[int(place * len(png))] ^= 1 << bit
    read = cv2.imdecode(np.frombuffer(bytes(png), np.uint8), cv2.IMREAD_COLOR_RGB)
    try:
        decoded = decode_png(bytes(png))
    except ArtifactError:
        assert read is None
    else:
        assert np.array_equal(decoded, array) or np.array_equal(decoded, read)


@pytest.mark.parametrize("largest", [9, 70_000])
def test_id_maps_come_back_whatever_their_largest_value(largest):
    ids = np.random.default_rng(0).integers(0, largest + 1, (7, 5), dtype=np.int32)
    decoded = decode_ids(encode_ids(ids))
    np.testing.assert_array_equal(decoded, ids)
    assert decoded.dtype == np.int32
