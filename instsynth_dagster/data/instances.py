"""The instances of an id map: areas, the index of a frame, and connected parts."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable

_INDEX_COLUMNS = {
    "value": "int64",
    "class_name": "object",
    "label_id": "int64",
    "is_group": "bool",
    "area": "int64",
    "x1": "int64",
    "y1": "int64",
    "x2": "int64",
    "y2": "int64",
    "touches_border": "bool",
    "components": "int64",
}


_COUNTED = 1 << 22
"""Largest value for which counting into a table is faster than sorting."""


def instance_areas(ids: np.ndarray) -> dict[int, int]:
    """Pixels of every value of an id map (H, W), in ascending order of value."""
    start, values = _runs(ids)
    lengths = np.diff(start, append=ids.size)
    if values.min(initial=0) >= 0 and values.max(initial=0) < _COUNTED:
        counts = np.bincount(values, lengths)
        distinct = np.flatnonzero(counts)
        counts = counts[distinct]
    else:
        distinct, owner = np.unique(values, return_inverse=True)
        counts = np.bincount(owner, lengths)
    return dict(zip(distinct.tolist(), counts.astype(np.int64).tolist(), strict=True))


def _runs(ids: np.ndarray, within_rows: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """First pixels of runs of equal ids, in row-major order, and the runs' ids; an id map has far fewer runs than
    pixels.

    Args:
        within_rows: whether a run ends at the end of its row.
    """
    flat = ids.ravel()
    begins = np.ones(flat.size, bool)
    np.not_equal(flat[1:], flat[:-1], out=begins[1:])
    if within_rows:
        begins[:: ids.shape[1]] = True
    start = np.flatnonzero(begins)
    return start, flat[start]


def instance_index(ids: np.ndarray, labels: LabelTable) -> pd.DataFrame:
    """One row per instance or group of an int32 (H, W) id map, in ascending order of value.

    Columns: value, class_name, label_id, is_group, area (pixels), x1, y1, x2, y2 (xyxy, x2/y2 exclusive),
    touches_border, components (number of 8-connected components).
    """
    start, found = _runs(ids, within_rows=True)
    lengths = np.diff(start, append=ids.size)
    things = np.isin(labels.label_ids(found), labels.thing_ids)
    if not things.any():
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _INDEX_COLUMNS.items()})
    start, lengths = start[things], lengths[things]
    values, owner = np.unique(found[things], return_inverse=True)
    area = np.bincount(owner, lengths)
    height, width = ids.shape
    ys, xs = np.divmod(start, width)
    low = np.full((len(values), 2), max(height, width))
    high = np.zeros((len(values), 2), dtype=np.int64)
    for axis, (first, last) in enumerate(((xs, xs + lengths), (ys, ys + 1))):
        np.minimum.at(low[:, axis], owner, first)
        np.maximum.at(high[:, axis], owner, last)
    label_ids = labels.label_ids(values)
    names = [labels.by_id[label].name for label in label_ids.tolist()]
    return pd.DataFrame(
        {
            "value": values.astype(np.int64),
            "class_name": pd.Series(names, dtype=object),
            "label_id": label_ids.astype(np.int64),
            "is_group": ~labels.is_instance(values),
            "area": area.astype(np.int64),
            "x1": low[:, 0],
            "y1": low[:, 1],
            "x2": high[:, 0],
            "y2": high[:, 1],
            "touches_border": (low == 0).any(axis=1) | (high[:, 0] == width) | (high[:, 1] == height),
            "components": [
                _components(ids, int(v), (x1, y1, x2, y2))[0]
                for v, (x1, y1), (x2, y2) in zip(values, low, high, strict=True)
            ],
        }
    )


def component_masks(ids: np.ndarray, value: int, box: tuple[int, int, int, int]) -> list[np.ndarray]:
    """8-connected components of one value as bool masks of its box (xyxy)."""
    count, components = _components(ids, value, box)
    return [components == index for index in range(1, count + 1)]


def _components(ids: np.ndarray, value: int, box: tuple[int, int, int, int]) -> tuple[int, np.ndarray]:
    """Number of 8-connected components of one value, and its box with their numbers, from 1."""
    x1, y1, x2, y2 = box
    count, components = cv2.connectedComponents((ids[y1:y2, x1:x2] == value).view(np.uint8), connectivity=8)
    return count - 1, components
