"""Masks as polygons along the sides of their pixels, which fill to exactly the same masks."""

from __future__ import annotations

import numpy as np

Ring = list[tuple[int, int]]
"""Corners (x, y) of a closed outline, in pixels from the upper left corner of the image."""


def exact_polygon(mask: np.ndarray) -> list[float]:
    """One polygon [x, y, x, y, ...] of a bool (H, W) mask; filled by the even-odd rule it reproduces the mask with its
    holes.

    Parts and holes are joined by cuts that are traversed in both directions, for formats with one polygon for an
    object. An empty mask gives an empty list.
    """
    found = rings(mask)
    if not found:
        return []
    path = [*found[0], found[0][0]]
    for ring in found[1:]:
        path += [*ring, ring[0], found[0][0]]
    return [float(value) for corner in (path if len(found) > 1 else path[:-1]) for value in corner]


def rings(mask: np.ndarray) -> list[Ring]:
    """The closed outlines of a bool (H, W) mask, of its parts and of its holes, as corners only."""
    padded = np.pad(mask, 1).astype(np.int8)
    below, right = np.diff(padded, axis=0), np.diff(padded, axis=1)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for edges, forward, dx, dy in ((below, 1, 1, 0), (below, -1, -1, 0), (right, -1, 0, 1), (right, 1, 0, -1)):
        ys, xs = np.nonzero(edges == forward)
        # of padded pixels: an edge below row y or right of column x; in image pixels one less, on the padded side
        ys, xs = (ys, xs - 1) if dx else (ys - 1, xs)
        starts_x, starts_y = xs + (dx < 0), ys + (dy < 0)
        for x, y in zip(starts_x.tolist(), starts_y.tolist(), strict=True):
            following.setdefault((x, y), []).append((x + dx, y + dy))
    found = []
    while following:
        start = next(iter(following))
        found.append(_corners(_run(following, start)))
    return found


def _run(following: dict[tuple[int, int], list[tuple[int, int]]], start: tuple[int, int]) -> Ring:
    """The closed path that follows edges, each once, from a point back to it."""
    path, point = [], start
    while True:
        path.append(point)
        ends = following[point]
        after = ends.pop()
        if not ends:
            del following[point]
        if after == start:
            return path
        point = after


def _corners(path: Ring) -> Ring:
    """A closed path without the points at which it does not change direction."""
    points = np.array(path)
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return [(x, y) for x, y in points[turns].tolist()]
