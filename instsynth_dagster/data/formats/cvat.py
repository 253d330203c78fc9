"""CVAT for images 1.1: one XML file with polygons, ellipses and masks of pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np

from instsynth_dagster.data.annotated import Annotated, AnnotatedImage, Category, ImageFolder
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.coco import side
from instsynth_dagster.data.formats.files import is_set
from instsynth_dagster.data.formats.shapes import code_in_box, ellipse, joined
from instsynth_dagster.errors import DatasetError, UnreadableError

_DRAWN, _NOT_DRAWN = ("polygon", "mask", "ellipse"), ("box", "polyline", "points", "cuboid", "skeleton")


def read_cvat(files: Mapping[str | None, Path], folder: ImageFolder) -> Annotated:
    """A data set of one or several CVAT files.

    Shapes of an image are drawn in their z-order. Shapes of one label and one group are parts of one object. A shape
    whose attribute `iscrowd` or `is_crowd` is true is a crowd.

    Raises:
        UnreadableError: a file is missing.
        DatasetError: a file is not in the format CVAT for images, or a shape in it is invalid.
    """
    found = Collected(folder)
    names: dict[str, int] = {}
    for split, path in files.items():
        for element in _elements(path):
            if element.tag == "label":
                names.setdefault(element.findtext("name") or "", len(names) + 1)
            else:
                _read_image(path, element, split, names, found)
    return found.annotated(list(files.values()), [Category(number, name) for name, number in names.items()])


def _elements(path: Path) -> Iterator[Element]:
    """Labels and images of a file, one after the other; elements are freed after use."""
    try:
        with path.open("rb") as file:
            inside = 0
            for event, element in iterparse(file, ("start", "end")):
                inside += {"start": 1, "end": -1}[event]
                if event == "start" and inside == 1 and element.tag != "annotations":
                    raise DatasetError(f"{path}: not a CVAT file: it begins with <{element.tag}>")
                if event == "end" and element.tag == "track":
                    raise DatasetError(f"{path}: holds tracks of a video; export it as 'CVAT for images 1.1'")
                if event == "end" and element.tag in ("label", "image"):
                    yield element
                    element.clear()
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such file; check dataset.annotations") from None
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    except ParseError as error:
        raise DatasetError(f"{path}: not valid XML ({error})") from None


def _read_image(path: Path, element: Element, split: str | None, names: dict[str, int], found: Collected) -> None:
    name = element.get("name")
    if not name:
        raise DatasetError(f"{path}: an image has no name")
    sides: dict[str, Any] = {key: _integer(path, element, key) for key in ("width", "height") if element.get(key)}
    size = (side(path, sides, "width", name), side(path, sides, "height", name))
    number = element.get("id") or ""
    image = found.image(path, name, split, size, int(number) if number.isdecimal() else None)
    if image is None:
        return
    shapes = [shape for shape in element if shape.tag in (*_DRAWN, *_NOT_DRAWN)]
    orders = {shape.get("z_order", "0") for shape in shapes if shape.tag in _DRAWN}
    found.note(
        "z_order",
        "images have shapes in a z-order of their own: dataset.overlap later follows it, the default puts the smaller "
        "object on top",
        int(len(orders) > 1),
    )
    objects: dict[Any, list[tuple[Element, Any]]] = {}
    for index, shape in enumerate(sorted(shapes, key=lambda shape: _integer(path, shape, "z_order"))):
        label = shape.get("label")
        if not label:
            raise DatasetError(f"{path}: a {shape.tag} of image {name!r} has no label")
        if shape.tag in _NOT_DRAWN:
            found.add(image, names.setdefault(label, len(names) + 1), None)
            continue
        group = shape.get("group_id", "0")
        key = (label, group) if group not in ("0", "") else index
        objects.setdefault(key, []).append((shape, _segmentation(path, shape, image)))
    for parts in objects.values():
        first = parts[0][0]
        category = names.setdefault(str(first.get("label")), len(names) + 1)
        found.add(image, category, joined([part for _, part in parts], image), _is_crowd(first))


def _integer(path: Path, element: Element, key: str) -> int:
    return int(_numbers(path, element, key, element.get(key) or "0")[0])


def _numbers(path: Path, element: Element, key: str, text: str) -> list[float]:
    try:
        found = [float(part) for part in text.replace(";", ",").split(",")]
    except ValueError:
        found = []
    if not found or not np.isfinite(found).all():
        raise DatasetError(f"{path}: {key} of a <{element.tag}> is {text[:60]!r}; it must be numbers")
    return found


def _segmentation(path: Path, shape: Element, image: AnnotatedImage) -> Any:
    if shape.tag == "polygon":
        return [_numbers(path, shape, "points", shape.get("points") or "")]
    if shape.tag == "ellipse":
        x, y, a, b = (_numbers(path, shape, key, shape.get(key) or "")[0] for key in ("cx", "cy", "rx", "ry"))
        return ellipse((x, y), (a, b), _numbers(path, shape, "rotation", shape.get("rotation") or "0")[0])
    return _code(path, shape, image)


def _code(path: Path, shape: Element, image: AnnotatedImage) -> dict[str, Any]:
    """Run-length code of the whole image, column by column, from run lengths along the rows of a box,
    background first.
    """
    counts = np.array(_numbers(path, shape, "rle", shape.get("rle") or ""), dtype=np.int64)
    left, top, width, height = (_integer(path, shape, key) for key in ("left", "top", "width", "height"))
    if counts.min() < 0 or counts.sum() != width * height:
        raise DatasetError(f"{path}: a mask of {image.file!r} has {counts.sum()} pixels, its box {width}x{height}")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    return code_in_box(f"{path}: a shape of {image.file!r}", inside, left, top, image)


def _is_crowd(shape: Element) -> bool:
    marks = {attribute.get("name"): attribute.text for attribute in shape.iter("attribute")}
    return is_set(marks.get("iscrowd")) or is_set(marks.get("is_crowd"))
