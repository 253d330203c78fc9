"""Encoding and resizing of images (uint8 RGB) and id maps (int32)."""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from collections.abc import Sequence
from typing import Any, Literal, SupportsBytes

import cv2
import numpy as np
from isal import isal_zlib

from instsynth_dagster.errors import ArtifactError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
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
    colour = _RGB if array.ndim == 3 else _GREY
    header = struct.pack(">IIBBBBB", width, height, 8 * array.dtype.itemsize, colour, 0, 0, 0)
    big_endian = np.ascontiguousarray(array, array.dtype.newbyteorder(">"))
    pixels = big_endian.view(np.uint8).reshape(height, -1)
    rows = np.empty((height, 1 + pixels.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[:1, 1:] = pixels[:1]
    np.subtract(pixels[1:], pixels[:-1], out=rows[1:, 1:])
    del array, big_endian, pixels  # frees an array that the caller has given away, before memory is at its peak
    packed = zlib.compress(rows.data, level=_LEVEL) if portable else isal_zlib.compress(rows, level=_LEVEL)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"".join([_SIGNATURE, *(part for chunk in chunks for part in _chunk(*chunk))])


def _chunk(name: bytes, content: bytes) -> tuple[bytes, ...]:
    return struct.pack(">I", len(content)), name, content, struct.pack(">I", _checksum(name, content))


def _checksum(name: bytes, content: bytes | memoryview) -> int:
    return int(isal_zlib.crc32(content, isal_zlib.crc32(name)))


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
    return sample_columns(encode_stored(image, form), encode_ids(ids))


def sample_columns(image_png: bytes, ids_png: bytes) -> dict[str, Any]:
    """Columns of `encoded_sample` from the encoded image and id map."""
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
    try:
        png = bytes(data)
    except TypeError:  # no bytes at all
        png = b""
    array = decode_as_encoded(png)
    if array is None:
        array = _decoded(png)
        return np.asarray(cv2.cvtColor(array, cv2.COLOR_BGR2RGB) if array.ndim == 3 else array)
    return array


def _decoded(data: bytes) -> np.ndarray:
    """Image decoded by OpenCV, its channels in the order BGR."""
    try:
        array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # empty
        array = None
    if array is None:
        raise ArtifactError("an image in an artifact cannot be decoded; delete the partition and refresh")
    return array


_HEADER = 33
"""Bytes before the only data chunk of files written by `encode_png`."""
_END = b"".join(_chunk(b"IEND", b""))
_PIECE = 1 << 16
"""Bytes of a file that are unpacked at once."""


def decode_as_encoded(png: bytes) -> np.ndarray | None:
    """Pixels of a file written by `encode_png`, uint8 (H, W, 3), uint8 (H, W) or uint16 (H, W), at twice the speed of
    OpenCV and three times that of Pillow; None for any other or damaged file.
    """
    if png[:_HEADER] != _SIGNATURE + b"".join(_chunk(b"IHDR", png[16:29])) or not png.endswith(_END):
        return None
    width, height, depth, colour, *plain = struct.unpack(">IIBBBBB", png[16:29])
    if plain != [0, 0, 0] or (depth, colour) not in ((8, _RGB), (8, _GREY), (16, _GREY)):
        return None
    length, name = struct.unpack(">I4s", png[_HEADER : _HEADER + 8])
    packed = memoryview(png)[_HEADER + 8 : -4 - len(_END)]
    checksum = struct.pack(">I", _checksum(name, packed))
    if length != len(packed) or name != b"IDAT" or png[-4 - len(_END) : -len(_END)] != checksum:
        return None
    stride = width * depth // 8 * (3 if colour == _RGB else 1)
    pixels = np.empty((height, stride), np.uint8)
    if not _unpack(packed, pixels):
        return None
    if colour == _RGB:
        return pixels.reshape(height, width, 3)
    if depth == 8:
        return pixels
    values = pixels.view(np.uint16)
    return values.byteswap(inplace=True) if sys.byteorder == "little" else values


def _unpack(packed: memoryview, pixels: np.ndarray) -> bool:
    """Fill pixels uint8 (rows, bytes) from a zlib stream of filtered rows, piece by piece, so that no second array of
    their size is made; returns whether the stream is whole, of this size, and filtered as `encode_png` does.
    """
    stream, length = isal_zlib.decompressobj(), 1 + pixels.shape[1]
    above, done, rest = np.zeros(pixels.shape[1], np.uint8), 0, b""
    for start in range(0, len(packed), _PIECE):
        try:
            unpacked = rest + stream.decompress(packed[start : start + _PIECE])
        except isal_zlib.error:  # type: ignore[misc]  # an exception class; the stubs say an instance
            return False
        whole = len(unpacked) // length
        rows = np.frombuffer(unpacked, np.uint8, whole * length).reshape(whole, length)
        if done + whole > len(pixels) or (rows[:, 0] != _UP).any():
            return False
        for difference, shown in zip(rows[:, 1:], pixels[done : done + whole], strict=True):
            np.add(above, difference, out=shown)
            above = shown
        done, rest = done + whole, unpacked[whole * length :]
    return stream.eof and done == len(pixels) and not rest


def encode_ids(ids: np.ndarray) -> bytes:
    """PNG bytes of an id map (H, W): 16-bit grey, or four channels of 8 bits where a value needs more."""
    if ids.min(initial=0) < 0:
        raise ArtifactError(f"an id map holds {ids.min()}; ids are not negative")
    if ids.max(initial=0) < 1 << 16:
        return encode_png(ids.astype(">u2"))
    planes = np.ascontiguousarray(ids, dtype="<u4").view(np.uint8).reshape(*ids.shape, 4)
    return cv2.imencode(".png", planes)[1].tobytes()


def decode_ids(data: SupportsBytes) -> np.ndarray:
    """int32 (H, W): inverse of `encode_ids`."""
    png = bytes(data)
    array = decode_as_encoded(png)
    if array is None:
        array = _decoded(png)
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
    return cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(ids.dtype, copy=False)
