"""YOLO's segmentation format: a data.yaml that names classes and folders, and a file of polygons for each image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from instsynth_dagster.data.annotated import Annotated, Category, ImageFolder
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.files import read_bytes, read_lines
from instsynth_dagster.data.reading import Turn, is_image_name, size_as_read
from instsynth_dagster.errors import DatasetError, UnreadableError, one_line

SPLITS = ("train", "val")
_FARTHEST = 2.0
"""Largest coordinate of a corner, in widths and heights of the image; a larger one was written in pixels."""


def read_yolo(path: Path, folder: ImageFolder, turn: Turn = "auto") -> Annotated:
    """A data set of a data.yaml.

    Args:
        folder: holds the images of all splits, and beside them their labels (`label_file`).
        turn: as for `reading.read_image`; polygons are given in fractions of the displayed image.

    Raises:
        UnreadableError: a file or a folder that it names is missing.
        DatasetError: it is no data.yaml, or a label file holds a line that is no polygon of a class.
    """
    config = _config(path)
    names = _names(path, config)
    found = Collected(folder)
    for split in SPLITS:
        for file in _listed(path, config, split, folder):
            whole = folder.root / file
            image = found.image(path, file, split if config.get("val") else None, size_as_read(whole, turn))
            if image is None:
                continue
            labels = label_file(whole)
            if not labels.is_file():
                found.note("unlabelled", "images have no label file and are taken for images without objects")
                continue
            for number, line in enumerate(read_lines(labels), 1):
                category, polygon = _object(f"{labels}, line {number}", line, names)
                found.add(image, category, polygon and _in_pixels(polygon, (image.width or 0, image.height or 0)))
    return found.annotated([path], [Category(number, name) for number, name in names.items()])


def label_file(image: Path) -> Path:
    """The label file of an image: the last folder `images` of its path becomes `labels`, the suffix `.txt`."""
    parts = list(image.parent.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts, f"{image.stem}.txt")


def _config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(read_bytes(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not valid YAML ({one_line(str(error))})") from None
    if not isinstance(config, dict) or not config.get("train"):
        raise DatasetError(f"{path}: not a data.yaml: it names no folder 'train'")
    return config


def _names(path: Path, config: Mapping[str, Any]) -> dict[int, str]:
    names = config.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(number, int) for number in names):
        raise DatasetError(f"{path}: names must be a list of class names, or a mapping from numbers to them")
    return {number: str(name) for number, name in names.items()}


def _listed(path: Path, config: Mapping[str, Any], split: str, folder: ImageFolder) -> list[str]:
    """Image files of a split, relative to the folder of images."""
    given = config.get(split) or []
    files: list[str] = []
    for name in given if isinstance(given, list) else [given]:
        place = _place(path, config, str(name))
        if place.is_dir():
            below = Path(os.path.relpath(place.resolve(), folder.root.resolve())).as_posix()
            if below.startswith(".."):
                raise DatasetError(f"{path}: {split} is {place}, which is not below {folder.root}; set dataset.images")
            prefix = "" if below == "." else f"{below}/"
            files += [file for file in folder.files if file.startswith(prefix)]
        else:
            files += [line.strip() for line in read_lines(place) if is_image_name(Path(line.strip()).name)]
    return list(dict.fromkeys(files))


def _place(path: Path, config: Mapping[str, Any], name: str) -> Path:
    """The path of a `name` in a data.yaml: relative to its `path`, or to the file itself, also where a tool wrote one
    .. too many.
    """
    bases = [path.parent / str(config.get("path") or ""), path.parent]
    tried = [base / text for base in bases for text in (name, name.removeprefix("../"))]
    for place in tried:
        if place.exists():
            return place
    raise UnreadableError(f"{path}: names {name!r}, but there is no {tried[0]}")


def _object(place: str, line: str, names: Mapping[int, str]) -> tuple[int, Sequence[float] | None]:
    """Class and corners of a line, in fractions of the image; None for a box."""
    try:
        values = [float(text) for text in line.split()]
    except ValueError:
        raise DatasetError(f"{place}: not a class number and coordinates, but {line[:60]!r}") from None
    category, corners = values[0], values[1:]
    if category not in names:
        raise DatasetError(f"{place}: names has no class {values[0]:g}")
    if len(corners) == 4:
        return int(category), None
    if len(corners) < 6 or len(corners) % 2:
        raise DatasetError(f"{place}: {len(corners)} coordinates make no polygon; x and y of three corners or more do")
    if not np.isfinite(corners).all() or max(map(abs, corners)) > _FARTHEST:
        raise DatasetError(f"{place}: corners must be shares of width and height, 0 to 1; these look like pixels")
    return int(category), corners


def _in_pixels(corners: Sequence[float], size: tuple[int, int]) -> list[float]:
    return (np.reshape(corners, (-1, 2)) * size).ravel().tolist()
