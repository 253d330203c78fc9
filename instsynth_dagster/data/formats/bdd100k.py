"""BDD100K's instance segmentation: bitmasks, whose four channels hold class, attributes and number, or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instsynth_dagster.data.annotated import Annotated, Category, ImageFolder, files_named
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.coco import check_lists, rows_of, side
from instsynth_dagster.data.formats.files import codes_of, in_threads, is_set, read_json, read_map
from instsynth_dagster.errors import DatasetError, UnreadableError

NAMES = ("pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""Classes of the bitmasks, numbered from 1."""
_CROWD, _IGNORED = 2, 1
"""Bits of the attributes; 8 is truncated, 4 is occluded."""
_SIZE = (1280, 720)
_STEPS = np.linspace(0, 1, 9)[1:, None]
"""Parameters at which a curve is evaluated."""


def read_bdd100k(files: Mapping[str | None, Path], folder: ImageFolder) -> Annotated:
    """A data set of bitmasks (a folder for each split) or of the labels' JSON files (`rle` or `poly2d`).

    Objects that are marked crowd or ignored are groups.

    Raises:
        UnreadableError: a file or folder is missing.
        DatasetError: a PNG is no bitmask, or a JSON file is no list of labelled frames.
    """
    found = Collected(folder)
    names = dict.fromkeys(NAMES)
    for split, path in files.items():
        if path.is_dir():
            _bitmasks(path, split, found)
        else:
            names |= dict.fromkeys(_frames(path, split, found, names))
    return found.annotated(list(files.values()), [Category(n, name) for n, name in enumerate(names, 1)])


def _bitmasks(folder: Path, split: str | None, found: Collected) -> None:
    paths = [folder / name for name in sorted(files_named(folder, lambda name: name.lower().endswith(".png")))]
    if not paths:
        raise UnreadableError(f"{folder}: no bitmask in it; check dataset.annotations")
    for path, (size, codes) in zip(paths, in_threads(_codes, paths), strict=True):
        stem = path.relative_to(folder.parent).with_suffix("").as_posix()
        image = found.image_of_stem(path, stem, split, size)
        for value, code in codes.items():
            number, attributes = value >> 16 & 255, value >> 8 & 255
            if not 1 <= number <= len(NAMES):
                if number:
                    raise DatasetError(f"{path}: the class {number} is none of 1 to {len(NAMES)}")
                continue
            found.add(image, number, code, crowd=bool(attributes & (_CROWD | _IGNORED)))


def _codes(path: Path) -> tuple[tuple[int, int], dict[int, dict[str, Any]]]:
    """(width, height), and the run-length code of each value; the alpha channel is the low byte of an object's
    number.
    """
    values, mode = read_map(path)
    if mode != "RGBA":
        raise DatasetError(f"{path}: not a bitmask of four channels, but of mode {mode}; take bitmasks, not colormaps")
    height, width = values.shape
    whole = codes_of(values)
    return (width, height), {value: whole[value] for value in sorted(whole, key=_number)}


def _number(value: int) -> int:
    """An object's number, from the third and fourth channel of its value."""
    return (value & 0xFF) << 8 | value >> 24


def _frames(path: Path, split: str | None, found: Collected, names: Mapping[str, None]) -> list[str]:
    """Read a JSON file; returns the names of its classes that are not known yet."""
    data = read_json(path)
    frames = data.get("frames") if isinstance(data, dict) else data
    if not isinstance(frames, list) or not all(isinstance(frame, dict) and frame.get("name") for frame in frames):
        raise DatasetError(f"{path}: not labels of BDD100K: it is no list of frames with a name")
    size = _size(path, data) if isinstance(data, dict) else _SIZE
    numbers = {name: number for number, name in enumerate(names, 1)}
    for frame in frames:
        video, file = frame.get("videoName") or frame.get("video_name"), str(frame["name"])
        image = found.image(path, f"{video or split}/{file}", split, size)
        about = f"labels of {file!r}"
        rows = {about: frame.get("labels") or []}
        check_lists(path, rows, "list of frames of BDD100K", (about,))
        for label in rows_of(path, rows, about, ("category",)):
            attributes = label.get("attributes")
            marks = attributes if isinstance(attributes, dict) else {}
            number = numbers.setdefault(str(label["category"]), len(numbers) + 1)
            crowd = is_set(marks.get("crowd")) or is_set(marks.get("ignored"))
            found.add(image, number, _segmentation(path, label, file), crowd, label.get("id"))
    return list(numbers)


def _size(path: Path, data: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """(width, height) of all frames."""
    config = data.get("config")
    size = config.get("imageSize") if isinstance(config, dict) else None
    if not isinstance(size, dict):
        return _SIZE
    return side(path, size, "width", "imageSize"), side(path, size, "height", "imageSize")


def _segmentation(path: Path, label: Mapping[str, Any], name: str) -> Any:
    if label.get("rle"):
        return label["rle"]
    try:
        return [_outline(part["vertices"], part.get("types")) for part in label.get("poly2d") or ()]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: a poly2d of {name!r} is no list of vertices and types ({error})") from None


def _outline(vertices: Sequence[Sequence[float]], types: str | None) -> list[float]:
    """Corners of a polygon; a `C` in its types marks a control point, or the end, of a cubic curve of three such
    points.
    """
    points = np.asarray(vertices, dtype=np.float64).reshape(-1, 2)
    kinds = (types or "").ljust(len(points), "L")
    found, index = [points[:1]], 1
    while index < len(points):
        if kinds[index] == "C" and index + 2 < len(points):
            start, (first, second, end) = found[-1][-1], points[index : index + 3]
            t, back = _STEPS, 1 - _STEPS
            found.append(back**3 * start + 3 * back**2 * t * first + 3 * back * t**2 * second + t**3 * end)
            index += 3
        else:
            found.append(points[index : index + 1])
            index += 1
    return np.concatenate(found).ravel().tolist()
