"""Image files in the variants that people have: JPEG, PNG, WebP, TIFF of 8 bits, of any mode, rotated for display."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from instsynth_dagster.errors import DatasetError, is_transient

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp"})
"""Suffixes of image files, in lower case."""
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
MAX_PIXELS = 1 << 28
"""Most pixels of an image; a header that declares more is a mistake or an attack, and the file is not decoded."""
ORIENTATION, BITS_PER_SAMPLE = 0x0112, 0x0102
_EIGHT_BITS = frozenset({"RGB", "RGBA", "RGBX", "RGBa", "L", "LA", "La", "P", "PA", "1", "CMYK", "YCbCr"})
_CONVERTED = {b"ftyp": "HEIC or AVIF", b"8BPS": "Photoshop", b"%PDF": "PDF"}

_FLIP = Image.Transpose
_SHOWN = {
    2: _FLIP.FLIP_LEFT_RIGHT,
    3: _FLIP.ROTATE_180,
    4: _FLIP.FLIP_TOP_BOTTOM,
    5: _FLIP.TRANSPOSE,
    6: _FLIP.ROTATE_270,
    7: _FLIP.TRANSVERSE,
    8: _FLIP.ROTATE_90,
}
"""Transpositions that display the stored pixels of an EXIF orientation correctly."""
_UNDONE = {**_SHOWN, 6: _FLIP.ROTATE_90, 8: _FLIP.ROTATE_270}

Turn = Literal["auto", "apply", "ignore"]
"""Treatment of an EXIF orientation: as the annotated size requires, always applied, never applied."""

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is checked here instead


def is_image_name(name: str) -> bool:
    """Whether a file name is that of an image; hidden files and the metadata files of macOS (`._*`) are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def decoded(path: Path, formats: Collection[str] = FORMATS) -> tuple[Image.Image, int]:
    """The first picture of a file, decoded completely, in its own mode and as stored, and its EXIF orientation (1 to
    8).

    Raises:
        DatasetError: it is missing, not in one of these formats, incomplete, too large, animated, or has more than 8
            bits a channel in colour.
    """
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path}: not a file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_header(path, image, formats)
            if image.format == "PNG":
                image.verify()  # checksums, which decoding does not verify
        with Image.open(path, formats=FORMATS) as image:
            orientation = orientation_of(image)
            image.load()
            if image.format == "TIFF" and orientation in _UNDONE:  # the only formats that Pillow rotates by itself
                return image.transpose(_UNDONE[orientation]), orientation
            return image, orientation
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise DatasetError(f"{path}: declares more than the {MAX_PIXELS} pixels that are read") from None
    except Exception as error:  # a decoder raises nearly any error on damaged data
        if is_transient(error):
            raise
        problem = getattr(error, "strerror", None)
        if problem:
            raise DatasetError(f"{path}: cannot be read ({problem})") from None
        raise DatasetError(f"{path}: {_unreadable(path, error, formats)}") from None


def _check_header(path: Path, image: Image.Image, formats: Collection[str]) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DatasetError(f"{path}: declares {image.width}x{image.height} pixels, at most {MAX_PIXELS} are read")
    kind = "JPEG" if image.format == "MPO" else image.format  # JPEG of a phone with a second picture in it
    if kind not in formats:
        raise DatasetError(f"{path}: holds {kind}, whatever its name says; save it as {' or '.join(formats)}")
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise DatasetError(f"{path}: holds several pictures; save the one that is annotated")
    if _bits(path, image) > 8 and image.mode not in ("I", "I;16", "I;16B", "I;16L"):
        raise DatasetError(f"{path}: an image must have 8 bits a channel, this one has {_bits(path, image)}")


def _bits(path: Path, image: Image.Image) -> int:
    """Bits a channel as the file itself says; Pillow's mode is 8-bit RGB for 16-bit files too."""
    if image.format == "PNG":
        with path.open("rb") as file:
            return file.read(25)[24]
    if image.format == "TIFF":
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, 8)
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    return 8


def _unreadable(path: Path, error: Exception, formats: Collection[str]) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    format_name = next((name for mark, name in _CONVERTED.items() if mark in start), None)
    if format_name:
        return f"holds {format_name}; save it as JPEG or PNG"
    if not start:
        return "an empty file; fetch it again"
    kinds = formats[0] if len(formats := list(formats)) == 1 else "image"
    return f"not a whole {kinds} ({error or type(error).__name__}); fetch the file again"


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation, 1 (as stored) to 8."""
    value = image.getexif().get(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def read_image(path: Path, size: tuple[int, int] | None = None, turn: Turn = "auto") -> np.ndarray:
    """uint8 (H, W, 3) RGB of a file; grey, palette and CMYK are converted, transparency is dropped.

    Args:
        size: (width, height) at which the image is annotated; with None it is rotated as its EXIF orientation says.
        turn: `auto` rotates an image unless only its stored size equals the annotated one.

    Raises:
        DatasetError: it cannot be decoded completely, has more than 8 bits a channel, or does not have the annotated
            size.
    """
    image, orientation = decoded(path)
    if image.mode not in _EIGHT_BITS:
        raise DatasetError(f"{path}: an image must have 8 bits a channel, this one has mode {image.mode}")
    if turns(image.size, orientation, size, turn):
        image = image.transpose(_SHOWN[orientation])
    if size is not None and image.size != tuple(size):
        about = f", EXIF orientation {orientation}" if orientation != 1 else ""
        raise DatasetError(
            f"{path}: {image.width}x{image.height} pixels{about}, but it is annotated at {size[0]}x{size[1]}"
        )
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def turns(stored: tuple[int, int], orientation: int, size: tuple[int, int] | None, turn: Turn) -> bool:
    """Whether an image of a stored (width, height) is rotated as its orientation says; arguments as for
    `read_image`.
    """
    if orientation == 1 or turn == "ignore":
        return False
    if turn == "apply" or size is None:
        return True
    shown = stored[::-1] if orientation >= 5 else stored
    return tuple(size) == shown


def header(path: Path) -> tuple[tuple[int, int], int]:
    """((width, height) as stored, EXIF orientation), from the header alone.

    Raises:
        DatasetError: it is missing or no image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            orientation = orientation_of(image)
            turned = image.format == "TIFF" and orientation >= 5  # Pillow gives the size as displayed
            return image.size[::-1] if turned else image.size, orientation
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except Exception as error:
        if is_transient(error):
            raise
        raise DatasetError(f"{path}: {_unreadable(path, error, FORMATS)}") from None


def size_as_read(path: Path, turn: Turn) -> tuple[int, int]:
    """(width, height) of an image that is annotated without a size: as displayed, or as stored where orientations are
    ignored.

    Raises:
        DatasetError: it is missing or no image.
    """
    stored, orientation = header(path)
    turned = turns(stored, orientation, None, turn) and orientation >= 5
    return stored[::-1] if turned else stored
