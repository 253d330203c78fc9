"""Annotation files as plain values: JSON, YAML, XML and lines of text, and id maps in PNG files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from instsynth_dagster.data.pixel_runs import IdRuns, as_text
from instsynth_dagster.data.reading import decoded
from instsynth_dagster.errors import DatasetError, UnreadableError

_SILENT = 3.0
"""Seconds after which progress is shown."""
T = TypeVar("T")
R = TypeVar("R")


def read_bytes(path: Path) -> bytes:
    """The content of an annotation file.

    Raises:
        UnreadableError: it is missing, or may not be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such file; check dataset.annotations") from None
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        UnreadableError: it cannot be read.
        DatasetError: it is not JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error})") from None


def is_set(mark: Any) -> bool:
    """Whether a mark such as `iscrowd` is set: 1, true, or one of them as text, as some tools write it."""
    return mark.strip().lower() not in ("", "0", "false", "no") if isinstance(mark, str) else bool(mark)


def read_lines(path: Path) -> list[str]:
    """The non-empty lines of a text file.

    Raises:
        UnreadableError: it cannot be read.
        DatasetError: it is not UTF-8.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    return [line for line in text.splitlines() if line.strip()]


def existing_folder(path: Path) -> Path:
    """A folder of annotation files. Raises UnreadableError where it is missing."""
    if not path.is_dir():
        raise UnreadableError(f"{path}: no such folder; check dataset.annotations")
    return path


def read_map(path: Path) -> tuple[np.ndarray, str]:
    """The values of a PNG, int64 (H, W), and its mode.

    The value of a colour is red * 65536 + green * 256 + blue, with the alpha channel, where there is one, as the
    highest byte.

    Raises:
        DatasetError: it cannot be decoded, or has an EXIF orientation.
    """
    image, orientation = decoded(path, ("PNG",))
    if orientation != 1:
        raise DatasetError(f"{path}: EXIF orientation {orientation} in an id map; turn the pixels and remove the tag")
    return _values(image), image.mode


def _values(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(np.int64)
    if pixels.ndim == 2:
        return pixels
    values = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    return values | pixels[..., 3] << 24 if pixels.shape[2] == 4 else values


def codes_of(values: np.ndarray) -> dict[int, dict[str, Any]]:
    """Run-length code of the pixels of each value of an id map (H, W)."""
    runs = IdRuns.of(values.astype(np.int32))  # values of four bytes stay distinct, as negative numbers
    return {value & 0xFFFFFFFF: as_text(runs.rle(value)) for value in runs.values.tolist()}


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Results in the order of the items, computed in several threads, with progress on a terminal."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        yield from tqdm(
            pool.map(function, items), "reading masks", len(items), leave=False, delay=_SILENT, disable=None
        )
