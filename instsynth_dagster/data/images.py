"""Encoding and resizing of images (uint8 RGB) and id maps (int32)."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal, SupportsBytes

import cv2
import numpy as np
from isal import isal_zlib

from instsynth_dagster.errors import ArtifactError

_GREY, _RGB = 0, 2
"""Colour types of PNG."""
_UP = 2
"""PNG's filter that stores each row as its difference from the row above."""
_LEVEL = 1
"""Compression level of deflate; ISA-L's files are about as small as zlib's at four times its speed."""


def encode_png(array: np.ndarray, portable: bool = False) -> bytes:
    """PNG bytes of uint8 (H, W, 3) RGB, or of uint8 / uint16 (H, W).

    Args:
        portable: whether to pack with zlib, whose bytes do not depend on the instructions of the CPU, at a quarter of
            the speed.
    """
    height, width = array.shape[:2]
    depth = 8 * array.dtype.itemsize
    big_endian = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
    pixels = big_endian.view(np.uint8).reshape(height, -1)
    rows = np.empty((height, 1 + pixels.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[:1, 1:] = pixels[:1]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, depth, _RGB if array.ndim == 3 else _GREY, 0, 0, 0)
    packed = zlib.compress(rows.data, level=_LEVEL) if portable else isal_zlib.compress(rows, level=_LEVEL)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = isal_zlib.crc32(content, isal_zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """JPEG bytes of uint8 (H, W, 3) RGB; for display only, never for data."""
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[
        1
    ].tobytes()


Stored = Literal["png", "webp", "jpeg"]
"""Formats of stored windows: `png` and `webp` without loss, `jpeg` at quality 95 without chroma subsampling."""


def encode_stored(image: np.ndarray, form: Stored) -> bytes:
    """Bytes of uint8 (H, W, 3) RGB in a stored format, all of which `decode_png` reads."""
    if form == "png":
        return encode_png(image)
    options = {
        "webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # above 100: without loss
        "jpeg": [
            *(cv2.IMWRITE_JPEG_QUALITY, 95),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ],
    }
    return cv2.imencode(f".{form}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options[form])[1].tobytes()


def encoded_sample(image: np.ndarray, ids: np.ndarray, form: Stored = "png") -> dict[str, Any]:
    """Columns image_sha256, ids_sha256, image_png and ids_png of an image uint8 (H, W, 3) and its id map (H, W)."""
    image_png, ids_png = encode_stored(image, form), encode_ids(ids)
    return {
        "image_sha256": hashlib.sha256(image_png).hexdigest(),
        "ids_sha256": hashlib.sha256(ids_png).hexdigest(),
        "image_png": image_png,
        "ids_png": ids_png,
    }


def decode_png(data: SupportsBytes) -> np.ndarray:
    """Inverse of `encode_png` and `encode_stored`; takes bytes, or an object that gives them
    (`artifacts.rows.StoredBytes`).
    """
    array = _decoded(data)
    return np.asarray(cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 else array)


def _decoded(data: SupportsBytes) -> np.ndarray:
    try:
        array = cv2.imdecode(np.frombuffer(bytes(data), np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, TypeError):  # empty, or no bytes at all
        array = None
    if array is None:
        raise ArtifactError("an image in an artifact cannot be decoded; delete the partition and refresh")
    return array


def encode_ids(ids: np.ndarray) -> bytes:
    """PNG bytes of an id map (H, W): 16-bit grey, or four channels of 8 bits where a value needs more."""
    if ids.min(initial=0) < 0:
        raise ArtifactError(f"an id map holds {ids.min()}; ids are not negative")
    if ids.max(initial=0) < 1 << 16:
        return encode_png(ids.astype(np.uint16))
    planes = np.ascontiguousarray(ids, dtype="<u4").view(np.uint8).reshape(*ids.shape, 4)
    return cv2.imencode(".png", planes)[1].tobytes()


def decode_ids(data: SupportsBytes) -> np.ndarray:
    """int32 (H, W): inverse of `encode_ids`."""
    array = _decoded(data)
    if array.ndim == 3 and array.shape[2] == 4:
        array = np.ascontiguousarray(array).view("<u4")[..., 0]
    if array.ndim != 2:
        raise ArtifactError("an id map in an artifact is a colour image; delete the partition and refresh")
    return array.astype(np.int32)


def png_size(data: SupportsBytes) -> tuple[int, int]:
    """(width, height) from the header of PNG bytes."""
    data = bytes(data)
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Image uint8 (H, W, 3) resized to (width, height): by area where it shrinks, by Lanczos where it grows."""
    if image.shape[1::-1] == tuple(size):
        return image
    return cv2.resize(image, size, interpolation=interpolation(image.shape, size[::-1]))


def interpolation(before: Sequence[int], after: Sequence[int]) -> int:
    """OpenCV's interpolation flag of `resize_image`, for shapes (H, W, ...)."""
    shrinks = after[0] * after[1] < before[0] * before[1]
    return cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4


def resize_ids(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Integer id map (H, W) resized to (width, height) by nearest neighbour; dtype unchanged."""
    return cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(ids.dtype)
