"""Pascal VOC's masks: for each image a PNG of objects and a PNG of classes, by palette index or by colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instsynth_dagster.data.annotated import Annotated, Category, ImageFolder, files_named
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.files import codes_of, existing_folder, in_threads, read_lines, read_map
from instsynth_dagster.errors import DatasetError

OBJECTS, CLASSES, LISTS, LABELMAP = "SegmentationObject", "SegmentationClass", "ImageSets/Segmentation", "labelmap.txt"
NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""Class names by palette index, unless a labelmap.txt defines others."""
_VOID_INDEX, _VOID_COLOUR = 255, 224 << 16 | 224 << 8 | 192

Objects = list[tuple[int | None, dict[str, Any]]]
"""Category and run-length code of each object; None for void."""


def voc_colour(index: int) -> int:
    """Colour of a palette index as red * 65536 + green * 256 + blue: the bits of the index alternate between the
    channels.
    """
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return channels[0] << 16 | channels[1] << 8 | channels[2]


def read_voc(path: Path, folder: ImageFolder) -> Annotated:
    """A data set of a folder that holds SegmentationObject and SegmentationClass.

    Train and val are those of ImageSets/Segmentation/train.txt and val.txt, where both exist; otherwise there are no
    splits. Borders that are marked void (index 255) stay void.

    Raises:
        UnreadableError: a folder or a file is missing.
        DatasetError: a PNG is no such map, an object has no class, or a list names an image that has no masks.
    """
    names, colours = _labels(path)
    found = Collected(folder)
    listed = [(split, stem) for split, stems in _lists(path).items() for stem in stems]

    def read(item: tuple[str | None, str]) -> tuple[tuple[int, int], Objects]:
        return _objects(path / OBJECTS / f"{item[1]}.png", path / CLASSES / f"{item[1]}.png", names, colours)

    for (split, stem), (size, objects) in zip(listed, in_threads(read, listed), strict=True):
        image = found.image_of_stem(path / OBJECTS / f"{stem}.png", stem, split, size)
        for category, code in objects:
            found.add(image, category, code)
    background = min(names)
    return found.annotated([path], [Category(n, name) for n, name in names.items() if n != background])


def _labels(path: Path) -> tuple[dict[int, str], dict[int, int]]:
    """Names by index, background first, and index by colour."""
    file = path / LABELMAP
    if not file.is_file():
        return dict(enumerate(NAMES)), {voc_colour(index): index for index in range(len(NAMES))}
    names: dict[int, str] = {}
    colours: dict[int, int] = {}
    rows = [line for line in read_lines(file) if not line.lstrip().startswith("#")]
    for index, row in enumerate(rows):
        parts = row.split(":")
        rgb = parts[1].split(",") if len(parts) > 1 else []
        if len(rgb) != 3 or not all(part.strip().isdecimal() and int(part) < 256 for part in rgb):
            raise DatasetError(f"{file}: {row!r} is not 'name:red,green,blue:parts:actions'")
        red, green, blue = map(int, rgb)
        names[index], colours[red << 16 | green << 8 | blue] = parts[0].strip(), index
    if not names or colours.get(0) != 0:
        raise DatasetError(f"{file}: the first label must be the background, 0,0,0")
    return names, colours


def _lists(path: Path) -> Mapping[str | None, Sequence[str]]:
    """Names of images, without suffixes, by split."""
    lists = {split: path / LISTS / f"{split}.txt" for split in ("train", "val")}
    if all(file.is_file() for file in lists.values()):
        return {split: [line.split()[0] for line in read_lines(file)] for split, file in lists.items()}
    masks = existing_folder(path / OBJECTS)
    pictures = files_named(masks, lambda name: name.lower().endswith(".png"))
    stems = sorted(name.removesuffix(".png") for name in pictures)
    if not stems:
        raise DatasetError(f"{masks}: no PNG in it; check dataset.annotations")
    return {None: stems}


def _objects(
    objects: Path, classes: Path, names: Mapping[int, str], colours: Mapping[int, int]
) -> tuple[tuple[int, int], Objects]:
    """(width, height) of the maps, and the objects in them."""
    (of_object, object_mode), (of_class, class_mode) = read_map(objects), read_map(classes)
    if of_object.shape != of_class.shape:
        raise DatasetError(f"{classes}: not of the size of {objects}")
    void = _void(object_mode)
    found: Objects = []
    for value, code in codes_of(of_object).items():
        if value == 0:
            continue
        if value == void:
            found.append((None, code))
            continue
        counts = {key: count for key, count in _counted(of_class[of_object == value]) if key != _void(class_mode)}
        best = max(counts, key=counts.__getitem__, default=0)
        index = best if class_mode in ("P", "L") else colours.get(best)
        if index not in names or index == 0:
            raise DatasetError(f"{classes}: object {value} of {objects.name} has no class there, but the value {best}")
        found.append((index, code))
    height, width = of_object.shape
    return (width, height), found


def _void(mode: str) -> int:
    if mode in ("P", "L"):
        return _VOID_INDEX
    return _VOID_COLOUR if mode == "RGB" else 255 << 24 | _VOID_COLOUR


def _counted(values: np.ndarray) -> list[tuple[int, int]]:
    return [(int(value), int(count)) for value, count in zip(*np.unique(values, return_counts=True), strict=True)]
