"""Annotations of single objects drawn into an id map: overlaps are resolved and losses counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.pixel_runs import decode_runs
from instsynth_dagster.errors import DatasetError

OnTop = Literal["smaller", "later"]
"""The visible one of two overlapping objects: the smaller one, or the one later in the file."""

Segmentation = Sequence[Sequence[float]] | Mapping[str, Any]
"""COCO's segmentation: polygons [[x, y, x, y, ...], ...] in pixels, or a code {"size": [H, W], "counts": ...}."""


@dataclass(frozen=True)
class Annotation:
    """One annotated object, or a group of them (`is_group`), of a label."""

    label_id: int
    segmentation: Segmentation
    is_group: bool = False


@dataclass(frozen=True)
class Drawn:
    """An id map int32 (H, W), and what was lost in drawing it.

    `hidden`: number of objects covered completely by others; `empty`: number of objects that cover no pixel of the
    image by themselves; `lost_pixels`: pixels of objects under others; `overlapping`: number of objects that lost
    pixels.
    """

    ids: np.ndarray
    lost_pixels: int
    overlapping: int
    hidden: int
    empty: int


def draw(annotations: Sequence[Annotation], size: tuple[int, int], labels: LabelTable, on_top: OnTop) -> Drawn:
    """Draw objects into an id map of (height, width); pixels outside all objects are 0.

    Objects of a label are numbered in their order, without those that cover no pixel. Groups lie below everything else.

    Raises:
        DatasetError: a segmentation is invalid, or a label has more objects than the table's coding has room for.
    """
    masks = [object_mask(annotation.segmentation, size) for annotation in annotations]
    areas = [int(mask.sum()) for mask in masks]
    numbers: Counter[int] = Counter()
    values = []
    for annotation, area in zip(annotations, areas, strict=True):
        if annotation.is_group or not area:
            values.append(annotation.label_id)
            continue
        values.append(labels.instance_id(annotation.label_id, numbers[annotation.label_id]))
        numbers[annotation.label_id] += 1
    drawn = [index for index, area in enumerate(areas) if area]
    if on_top == "smaller":
        drawn.sort(key=lambda index: -areas[index])
    drawn.sort(
        key=lambda index: not annotations[index].is_group
    )  # a stable sort: groups first, the rest in their order
    ids = np.zeros(size, dtype=np.int32)
    for index in drawn:
        ids[masks[index]] = values[index]
    single = [index for index in drawn if not annotations[index].is_group]
    left = {index: int((ids[masks[index]] == values[index]).sum()) for index in single}
    return Drawn(
        ids,
        lost_pixels=sum(areas[index] - left[index] for index in single),
        overlapping=sum(left[index] < areas[index] for index in single),
        hidden=sum(not left[index] for index in single),
        empty=len(areas) - len(drawn),
    )


def object_mask(segmentation: Segmentation, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W) of a COCO segmentation; it is cut off at the image's borders, and its parts are united.

    Raises:
        DatasetError: it is no segmentation, or a run-length code of another size.
    """
    height, width = size
    try:
        if isinstance(segmentation, Mapping):
            return _decoded(segmentation, size)
        parts = [np.asarray(part, dtype=np.float64).ravel() for part in segmentation]
        # fewer than three corners have no area, and pycocotools would read four numbers as a box
        polygons = [_inside(part, size).tolist() for part in parts if len(part) >= 6]
        if not polygons:
            return np.zeros(size, dtype=bool)
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))).astype(bool)
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"a segmentation is neither polygons nor a run-length code ({error})") from None


def _decoded(code: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    coded, counts = tuple(code["size"]), code["counts"]
    if coded != tuple(size):
        raise DatasetError(f"a run-length code is of {coded[1]}x{coded[0]} pixels, its image has {size[1]}x{size[0]}")
    if isinstance(counts, list | tuple):
        if sum(counts) != size[0] * size[1] or min(counts, default=0) < 0:
            raise DatasetError(f"a run-length code covers {sum(counts)} of {size[0] * size[1]} pixels")
        compressed = coco_mask.frPyObjects({"size": list(size), "counts": list(counts)}, *size)
    else:
        compressed = {"size": list(size), "counts": counts.encode("ascii") if isinstance(counts, str) else counts}
        if not _covers(compressed["counts"], size[0] * size[1]):
            raise DatasetError(f"a run-length code does not cover its {size[1]}x{size[0]} pixels")
    return coco_mask.decode(compressed).astype(bool)


def _covers(counts: bytes, pixels: int) -> bool:
    """Whether a compressed code has the expected number of pixels; pycocotools would read beyond its end if it has
    fewer.
    """
    if not counts or not 48 <= min(counts) <= max(counts) < 112:
        return False
    return bool(decode_runs([counts.decode("ascii")]).sizes[0] == pixels)


def _inside(polygon: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The corners of a polygon with distant ones moved close to the image, because pycocotools visits every pixel of an
    outline.

    Raises:
        DatasetError: a corner is no number, or the number of coordinates is odd.
    """
    if len(polygon) % 2 or not np.isfinite(polygon).all():
        raise DatasetError("a polygon has a corner that is no pair of numbers")
    height, width = size
    corners = polygon.reshape(-1, 2)
    if (corners.min() >= -width - height) and (corners.max() <= 2 * (width + height)):
        return polygon
    return _clipped(corners, width, height).ravel()


def _clipped(corners: np.ndarray, width: int, height: int) -> np.ndarray:
    """A polygon cut off at the image's sides (Sutherland and Hodgman, 1974), with at least one corner."""
    for axis, bound, sign in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        kept: list[np.ndarray] = []
        inside = sign * (corners[:, axis] - bound) >= 0
        for index, corner in enumerate(corners):
            before, was_inside = corners[index - 1], inside[index - 1]
            if inside[index] != was_inside:
                share = (bound - before[axis]) / (corner[axis] - before[axis])
                kept.append(before + share * (corner - before))
            if inside[index]:
                kept.append(corner)
        corners = np.array(kept) if kept else np.zeros((1, 2))
        if not kept:
            return np.zeros((3, 2))
    return corners
