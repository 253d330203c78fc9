"""Frames in which every object of chosen classes has lost its pixels; the labels are unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import cv2
import numpy as np

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.settings import AnonymiseSettings, IntegrationSettings
from instsynth_dagster.synthesis.crops import Box
from instsynth_dagster.synthesis.integration import paste_row

_LEAST_CELL = 4
"""Smallest side of a cell in pixels; a smaller object is averaged with its surroundings."""
_BLUR_REACH = 3
"""Radius of a blur's kernel in standard deviations."""


@dataclass(frozen=True)
class Part:
    """An object that is hidden as a unit, or a connected part of a group.

    `value` is its id in the id map, `box` its box (xyxy in the frame, x2 and y2 exclusive), `mask` bool (y2 - y1, x2 -
    x1).
    """

    value: int
    box: Box
    mask: np.ndarray

    def cell(self, settings: AnonymiseSettings) -> int:
        """Side of a pixelation cell in pixels: the smallest detail that remains visible."""
        x1, y1, x2, y2 = self.box
        return max(_LEAST_CELL, ceil(max(x2 - x1, y2 - y1) / settings.cells))


def hidden_parts(ids: np.ndarray, labels: LabelTable, classes: Iterable[str]) -> list[Part]:
    """All regions of an id map int32 (H, W) that are labelled as one of `classes`: instances, groups, and labels
    without instances, in ascending order of value.
    """
    chosen = np.isin(labels.label_ids(values := np.unique(ids)), labels.ids_of(classes))
    parts = []
    for value in values[chosen].tolist():
        mask = ids == value
        pieces = [mask] if value >= labels.factor else _connected(mask)
        parts += [_part(value, piece) for piece in pieces]
    return parts


def _part(value: int, mask: np.ndarray) -> Part:
    x1, y1, x2, y2 = mask_box(mask)
    return Part(value, (x1, y1, x2, y2), mask[y1:y2, x1:x2])


def _connected(mask: np.ndarray) -> Iterator[np.ndarray]:
    number, numbered = cv2.connectedComponents(mask.astype(np.uint8))
    return (numbered == piece for piece in range(1, number))


def covered(shape: tuple[int, int], parts: Sequence[Part], dilation: int) -> np.ndarray:
    """bool (H, W): the pixels of the parts, and those at most `dilation` pixels away from one."""
    apart = np.ones(shape, np.uint8)
    for part in parts:
        x1, y1, x2, y2 = part.box
        apart[y1:y2, x1:x2][part.mask] = 0
    if dilation == 0 or not parts:
        return apart == 0
    return np.asarray(cv2.distanceTransform(apart, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= dilation)


def coarsened(image: np.ndarray, parts: Sequence[Part], settings: AnonymiseSettings) -> np.ndarray:
    """A copy of a frame uint8 (H, W, 3) in which the parts are pixelated, or blurred to the same resolution.

    The resolution follows from the size of each part; at least 4 x 4 pixels (as far as the frame has them) are
    averaged.
    """
    coarse = image.copy()
    for part in parts:
        box = part.box
        cell = part.cell(settings)
        seen = _grown(box, cell, image.shape[:2], _BLUR_REACH * cell if settings.otherwise == "blur" else 0)
        look = image[seen[1] : seen[3], seen[0] : seen[2]]
        made = cv2.GaussianBlur(look, (0, 0), cell / 2) if settings.otherwise == "blur" else _pixelated(look, cell)
        within = (slice(box[1] - seen[1], box[3] - seen[1]), slice(box[0] - seen[0], box[2] - seen[0]))
        coarse[box[1] : box[3], box[0] : box[2]][part.mask] = made[within][part.mask]
    return coarse


def _grown(box: Box, least: int, shape: tuple[int, int], margin: int) -> Box:
    """A box with a margin and a minimum side, inside a frame (H, W)."""

    def side(low: int, high: int, length: int) -> tuple[int, int]:
        low, high = max(low - margin, 0), min(high + margin, length)
        missing = max(0, least - (high - low))
        low = max(0, min(low - missing // 2, length - least))
        return low, min(max(high, low + least), length)

    (x1, x2), (y1, y2) = side(box[0], box[2], shape[1]), side(box[1], box[3], shape[0])
    return x1, y1, x2, y2


def _pixelated(image: np.ndarray, cell: int) -> np.ndarray:
    """uint8 (h, w, 3) in squares of their mean colour; a remainder at the end belongs to the last square."""
    rows, columns = (np.arange(max(1, length // cell)) * cell for length in image.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(image.astype(np.int64), rows, axis=0), columns, axis=1)
    heights, widths = (
        np.diff([*starts, length]) for starts, length in zip((rows, columns), image.shape[:2], strict=True)
    )
    means = np.rint(sums / (heights[:, None] * widths)[..., None]).astype(np.uint8)
    return np.repeat(np.repeat(means, heights, axis=0), widths, axis=1)


def filled_from_outside(image: np.ndarray, region: np.ndarray) -> np.ndarray:
    """A copy of a frame uint8 (H, W, 3) in which each pixel of `region`, bool (H, W), has the colour of the nearest
    pixel outside it; unchanged if the region covers the frame.
    """
    if region.all() or not region.any():
        return image.copy()
    _, nearest = cv2.distanceTransformWithLabels(
        region.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.zeros(int(nearest.max()) + 1, np.int64)
    outside = ~region
    places[nearest[outside]] = np.flatnonzero(outside)
    return np.asarray(image.reshape(-1, image.shape[2])[places[nearest]])


def anonymised_frame(
    image: np.ndarray,
    parts: Sequence[Part],
    painted: Sequence[Mapping[str, Any]],
    settings: AnonymiseSettings,
    integration: IntegrationSettings,
) -> np.ndarray:
    """A frame in which no pixel of the parts is that of the source.

    First every part becomes coarse, and the rim of `dilation` pixels around it is filled from outside. Only then are
    the repaintings pasted in, so that their soft edges fade into coarse pixels and not into the source.

    Args:
        image: uint8 (H, W, 3).
        parts: everything that is hidden (`hidden_parts`).
        painted: accepted repaintings of instances among the parts: mask_counts, crop_x1 .. crop_y2, repainted_png.

    Returns:
        uint8 (H, W, 3), bit-identical to `image` farther than `dilation` pixels from every part.
    """
    region, inside = (covered(image.shape[:2], parts, reach) for reach in (settings.dilation, 0))
    made, rim = coarsened(image, parts, settings), region & ~inside
    made[rim] = made[inside].mean(axis=0) if region.all() else filled_from_outside(image, region)[rim]
    for row in painted:
        made = paste_row(made, row, integration)
    return made


REPAINTED = "repainted"


def changed_outside(image: np.ndarray, made: np.ndarray, parts: Sequence[Part], dilation: int) -> int:
    """Number of pixels of an anonymised frame that differ from its source although nothing is hidden there."""
    region = covered(image.shape[:2], parts, dilation)
    return int(((image != made).any(axis=2) & ~region).sum())


@dataclass(frozen=True)
class Outcome:
    """The outcome for one hidden object: its value in the id map, its class, how it was hidden, and why it was not
    repainted ("" where it was).
    """

    value: int
    class_name: str
    how: str
    why: str


def outcomes(
    parts: Sequence[Part],
    rows: Sequence[Mapping[str, Any]],
    labels: LabelTable,
    painted_classes: Sequence[str],
    settings: AnonymiseSettings,
) -> list[Outcome]:
    """The outcome for every hidden object of a frame, in ascending order of value.

    Args:
        parts: the hidden parts of the frame.
        rows: rows of `synthetic_windows.repainted_instances` for all its painted instances, accepted or not.
        painted_classes: classes that a generator paints.
    """
    by_value = {int(row["value"]): row for row in rows}
    how = {"pixelate": "pixelated", "blur": "blurred"}[settings.otherwise]
    found = []
    for value in dict.fromkeys(part.value for part in parts):
        row, name = by_value.get(value), labels.label_of(value).name
        if row is not None and row["repainted_png"] is not None:
            found.append(Outcome(value, name, REPAINTED, ""))
        elif row is not None:
            found.append(Outcome(value, name, how, str(row["rejection"])))
        elif name not in painted_classes:
            found.append(Outcome(value, name, how, "its class is not painted"))
        else:
            found.append(Outcome(value, name, how, "a group" if value < labels.factor else "too small"))
    return found
