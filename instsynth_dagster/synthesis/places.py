"""Where objects of a class may stand, learned from the annotated frames of a data set.

Three things are learned for each class: how tall its instances are where their feet are at some height in the picture,
where their feet are, and what lies under them. Nothing about streets or cameras is built in; where the data say too
little there is no model, and the reason is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from instsynth_dagster.synthesis.crops import Box

LEAST_INSTANCES = 8
"""Of a class, whole ones, below which nothing is learned."""
_RARE_GROUND = 0.05
"""Share of a class's instances below which a label is no ground that it stands on."""
_BELOW = 2
"""Rows under the lowest pixel of an instance in which its ground is looked up."""


@dataclass(frozen=True)
class StandingPlaces:
    """What is known of one class.

    heights and feet: of the instances learned from, pixels, float64 (N,): box height, and the row below the lowest
    pixel. slope, offset: height = slope * foot + offset, a robust line. residuals: log of true over expected height,
    float64 (N,). grounds: ids of the labels that instances stand on.
    """

    heights: np.ndarray
    feet: np.ndarray
    slope: float
    offset: float
    residuals: np.ndarray
    grounds: frozenset[int]

    def expected_height(self, foot: float) -> float:
        """Height in pixels of an instance whose foot is in this row, at least 1."""
        return max(1.0, self.slope * foot + self.offset)


def grounds(ids: np.ndarray, labels: np.ndarray, instances: pd.DataFrame) -> np.ndarray:
    """`ground_below` of every row of a frame's instance index (value, x1, y1, x2, y2), int64 (N,).

    Args:
        ids: int32 (H, W); labels: label ids (H, W).
    """
    boxes = instances[["x1", "y1", "x2", "y2"]].itertuples(index=False, name=None)
    found = [
        ground_below(labels, (x1, y1, x2, y2), ids[y1:y2, x1:x2] == value)
        for value, (x1, y1, x2, y2) in zip(instances["value"], boxes, strict=True)
    ]
    return np.array(found, dtype=np.int64)


def ground_below(labels: np.ndarray, box: Box, mask: np.ndarray) -> int:
    """The label under the feet of an instance.

    Args:
        labels: label ids (H, W) of the frame.
        box: tight, xyxy; mask: bool, the instance in its box.

    Returns:
        The commonest label just below the columns that reach into the lowest tenth of the box; -1 where that is outside
        the frame.
    """
    x1, y1, _, y2 = box
    row = y2 - 1 + _BELOW
    if row >= labels.shape[0]:
        return -1
    low = np.atleast_1d(mask[-max(1, (y2 - y1) // 10) :].any(axis=0))
    values, counts = np.unique(labels[row, x1 : x1 + len(low)][low], return_counts=True)
    return int(values[counts.argmax()])


def learn_places(instances: pd.DataFrame) -> StandingPlaces | str:
    """Learn where a class stands, or say why that is not possible.

    Args:
        instances: rows of one class, of all train frames: is_group, touches_border, y1, y2, and its `ground`.
    """
    unsure = instances["is_group"].astype(bool) | instances["touches_border"].astype(bool) | (instances["ground"] < 0)
    whole = instances[~unsure]
    if len(whole) < LEAST_INSTANCES:
        return f"only {len(whole)} whole instances to learn places from, {LEAST_INSTANCES} are needed"
    feet = whole["y2"].to_numpy(float)
    heights = feet - whole["y1"].to_numpy(float)
    slope, offset = _robust_line(feet, heights)
    expected = np.maximum(slope * feet + offset, 1.0)
    shares = whole["ground"].value_counts(normalize=True)
    return StandingPlaces(
        heights,
        feet,
        slope,
        offset,
        np.log(heights / expected),
        frozenset(int(label) for label, share in shares.items() if share >= _RARE_GROUND),
    )


def _robust_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and offset after Theil and Sen: medians, so that the hidden and the fallen do not count. A slope is never
    negative: what stands lower in the picture is nearer."""
    from scipy.stats import theilslopes

    if np.ptp(x) == 0:
        return 0.0, float(np.median(y))
    slope = max(0.0, float(theilslopes(y, x).slope))
    return slope, float(np.median(y - slope * x))
