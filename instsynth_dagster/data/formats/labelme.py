"""LabelMe: a JSON file for each image, with polygons, circles and masks of pixels."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instsynth_dagster.data.annotated import Annotated, AnnotatedImage, Category, ImageFolder, files_named
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.coco import check_lists, side
from instsynth_dagster.data.formats.files import existing_folder, is_set, read_json
from instsynth_dagster.data.formats.shapes import code_in_box, ellipse, joined
from instsynth_dagster.errors import DatasetError

IGNORED = ("__ignore__", "_background_")
"""Labels that are not classes; regions of the first one are void."""


def read_labelme(folders: Mapping[str | None, Path], folder: ImageFolder) -> Annotated:
    """A data set of folders of JSON files, subfolders included.

    Classes are numbered in the order of their names. Shapes of one label and one group are parts of one object. A shape
    whose flag `iscrowd` is set is a crowd.

    Raises:
        UnreadableError: a folder is missing.
        DatasetError: a file is not LabelMe's, or a shape in it is invalid.
    """
    found, read = Collected(folder), []
    for split, place in folders.items():
        found_files = files_named(existing_folder(place), lambda name: name.lower().endswith(".json"))
        paths = [place / name for name in sorted(found_files)]
        if not paths:
            raise DatasetError(f"{place}: no JSON file in it; check dataset.annotations")
        for path in paths:
            data = read_json(path)
            check_lists(path, data, "file of LabelMe", ("shapes",))
            read.append((path, split, data))
    labels = {str(s.get("label")) for *_, data in read for s in data["shapes"] if isinstance(s, dict)}
    names = {name: number for number, name in enumerate(sorted(labels - set(IGNORED)), 1)}
    for path, split, data in read:
        _read_image(path, split, data, names, found)
    return found.annotated(list(folders.values()), [Category(number, name) for name, number in names.items()])


def _read_image(path: Path, split: str | None, data: dict[str, Any], names: dict[str, int], found: Collected) -> None:
    image_path = data.get("imagePath")
    if not isinstance(image_path, str) or not image_path:
        raise DatasetError(f"{path}: has no imagePath")
    size = (side(path, data, "imageWidth", image_path), side(path, data, "imageHeight", image_path))
    image = found.image(path, _beside(path, image_path, found.folder.root), split, size)
    if image is None:
        return
    objects: dict[Any, list[tuple[dict[str, Any], Any]]] = {}
    for index, shape in enumerate(data["shapes"]):
        place = f"{path}: shapes[{index}]"
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DatasetError(f"{place} has no label")
        group = shape.get("group_id")
        key = index if group is None else (shape["label"], str(group))
        objects.setdefault(key, []).append((shape, _segmentation(place, shape, image)))
    for parts in objects.values():
        label, flags = parts[0][0]["label"], parts[0][0].get("flags") or {}
        if label == "_background_":
            continue
        whole = joined([part for _, part in parts if part is not None], image)
        found.add(image, names.get(label), whole, isinstance(flags, dict) and is_set(flags.get("iscrowd")))


def _beside(path: Path, image_path: str, root: Path) -> str:
    """The path of an image relative to the folder of images, from its path relative to the JSON file."""
    below = os.path.relpath(path.parent.resolve() / image_path.replace("\\", "/"), root.resolve()).replace(os.sep, "/")
    return image_path if below.startswith("../") else below


def _segmentation(place: str, shape: Mapping[str, Any], image: AnnotatedImage) -> Any:
    """COCO's segmentation of a shape; None for one without area, or a box."""
    kind = shape.get("shape_type") or "polygon"
    try:
        points = np.asarray(shape.get("points"), dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise DatasetError(f"{place}.points are no pairs of numbers") from None
    if kind == "polygon":
        return [points.ravel().tolist()]
    if kind == "circle":
        if len(points) != 2:
            raise DatasetError(f"{place}.points must be the middle of the circle and a point on it")
        radius = math.dist(*points)
        return ellipse(points[0], (radius, radius))
    return _code(place, shape, points, image) if kind == "mask" else None


def _code(place: str, shape: Mapping[str, Any], points: np.ndarray, image: AnnotatedImage) -> dict[str, Any]:
    """Run-length code of the whole image, from a mask of the pixels of a box."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"])), formats=("PNG",)) as picture:
            inside = np.asarray(picture.convert("L")) > 0
        left, top = (int(value) for value in points[0])
    except (KeyError, IndexError, ValueError, TypeError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{place}.mask is no PNG with its box in points ({error})") from None
    return code_in_box(place, inside, left, top, image)
