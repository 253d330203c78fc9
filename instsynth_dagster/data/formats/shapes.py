"""Shapes that annotation tools draw, as COCO's segmentations: ellipses, masks in a box, objects in several parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from instsynth_dagster.data.annotated import AnnotatedImage
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.data.rasterise import object_mask
from instsynth_dagster.errors import DatasetError

_CORNERS = 72


def ellipse(middle: Sequence[float], radii: Sequence[float], degrees: float = 0.0) -> list[list[float]]:
    """An ellipse as one polygon of 72 corners; `middle` and `radii` are (x, y) in pixels, rotated clockwise by
    `degrees` as displayed.
    """
    angle, turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False), np.radians(degrees)
    dx, dy = radii[0] * np.cos(angle), radii[1] * np.sin(angle)
    xs = middle[0] + dx * np.cos(turn) - dy * np.sin(turn)
    ys = middle[1] + dx * np.sin(turn) + dy * np.cos(turn)
    return [np.stack([xs, ys], axis=1).ravel().tolist()]


def code_in_box(place: str, inside: np.ndarray, left: int, top: int, image: AnnotatedImage) -> dict[str, Any]:
    """The run-length code of a whole image whose box at (left, top) holds a mask, bool (h, w), cropped to the image.

    Raises:
        DatasetError: the size of the image is unknown; `place` names the shape.
    """
    if not image.width or not image.height:
        raise DatasetError(f"{place} is a mask of pixels, but the size of {image.file!r} is not given; add it")
    mask = np.zeros((image.height, image.width), dtype=bool)
    x, y = max(0, -left), max(0, -top)
    seen = mask[max(0, top) : max(0, top + inside.shape[0]), max(0, left) : max(0, left + inside.shape[1])]
    seen[:] = inside[y : y + seen.shape[0], x : x + seen.shape[1]]
    return encode_rle(mask)


def joined(parts: Sequence[Any], image: AnnotatedImage) -> Any:
    """One segmentation that unites several; None for an empty sequence."""
    if len(parts) < 2:
        return parts[0] if parts else None
    if all(isinstance(part, list) for part in parts):
        return [polygon for part in parts for polygon in part]
    size = (image.height or 0, image.width or 0)
    return encode_rle(np.any([object_mask(part, size) for part in parts], axis=0))
