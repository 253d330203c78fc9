"""Polygons that reproduce an id map when they are filled one after the other, as Cityscapes annotates its frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Outline:
    """A filled polygon of an id map: the id of its pixels, and its corners int32 (N, 2), xy, N at least 3."""

    value: int
    corners: np.ndarray


def stacked_outlines(ids: np.ndarray, group_of: Callable[[int], int]) -> list[Outline]:
    """Outlines of every connected component, in an order in which filling them reproduces the id map.

    Larger outlines come first, so that a component in a hole or in front is filled later. The format has one polygon
    for an instance: of an instance in several parts the one with the largest outline stays the instance, the others get
    the id of its group.

    Pixels that touch at a corner belong to one component, as far as filling can reproduce that: two objects that cross
    each other at corners cannot be filled so, and are cut into components that touch along sides, whose outlines never
    cross.

    Args:
        ids: int32 (H, W), not negative.
        group_of: the id of an instance's group; any other id itself.
    """
    from scipy import ndimage

    boxes = {value: box for value, box in enumerate(ndimage.find_objects(ids + 1)) if box is not None}
    groups = {value: group_of(value) for value in boxes}
    group_map = np.arange(max(groups, default=0) + 1, dtype=np.int32)
    group_map[list(groups)] = list(groups.values())
    components = {value: _touching(ids, value, box) for value, box in boxes.items()}
    cut: set[int] = set()
    while True:
        outlines = _stacked(components, groups)
        drawn = fill(outlines, ids.shape)
        wrong = drawn != ids
        wrong[wrong] = drawn[wrong] != group_map[ids[wrong]]
        if not wrong.any():
            return outlines
        crossing = set(np.unique(ids[wrong]).tolist()) | set(np.unique(drawn[wrong]).tolist())
        for value in [value for value, group in groups.items() if {value, group} & crossing and value not in cut]:
            components[value] = _side_by_side(ids, value, boxes[value])
            cut.add(value)


def fill(outlines: Sequence[Outline], shape: tuple[int, ...]) -> np.ndarray:
    """int32 (H, W) on which outlines were filled in order; 0 elsewhere."""
    canvas = np.zeros(shape, np.int32)
    for outline in outlines:
        cv2.fillPoly(canvas, [outline.corners], outline.value)
    return canvas


Component = tuple[float, np.ndarray]
"""Area inside an outline in pixels, and its corners int32 (N, 2)."""


def _stacked(components: Mapping[int, Sequence[Component]], groups: Mapping[int, int]) -> list[Outline]:
    found = []
    for value, parts in components.items():
        for number, (area, corners) in enumerate(sorted(parts, key=_area)):
            found.append((area, Outline(groups[value] if number else value, corners)))
    return [outline for _, outline in sorted(found, key=_area)]


def _area(item: tuple[float, object]) -> float:
    return -item[0]


def _touching(ids: np.ndarray, value: int, box: Box) -> list[Component]:
    """8-connected components of an id."""
    return _outer((ids[box] == value).astype(np.uint8), (box[1].start, box[0].start))


def _side_by_side(ids: np.ndarray, value: int, box: Box) -> list[Component]:
    """4-connected components of an id."""
    from scipy import ndimage

    _, numbers = cv2.connectedComponents((ids[box] == value).astype(np.uint8), connectivity=4)
    components = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), 1):
        component = (numbers[rows, columns] == number).astype(np.uint8)
        components += _outer(component, (box[1].start + columns.start, box[0].start + rows.start))
    return components


def _outer(mask: np.ndarray, offset: tuple[int, int]) -> list[Component]:
    """Outer outlines of a mask uint8 (h, w) whose upper left corner is at `offset` (x, y)."""
    contours, levels = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
    components = []
    for contour, (_, _, _, around) in zip(contours, levels[0], strict=True):
        if around < 0:  # outer outlines only, not those of holes
            corners = contour.reshape(-1, 2)
            if len(corners) < 3:  # a pixel, or a line: the tools expect three points
                corners = np.concatenate([corners, np.repeat(corners[-1:], 3 - len(corners), axis=0)])
            components.append((cv2.contourArea(corners), corners))
    return components
