"""Places where objects of a class may stand, learned from the annotated frames of a data set.

Three statistics are learned for each class: how tall its instances are at each height of their feet in the image, where
their feet are, and which labels lie under them. Nothing about streets or cameras is built in; where the data are too
few there is no model, and the reason is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from instsynth_dagster.synthesis.crops import Box

LEAST_INSTANCES = 8
"""Uncut instances of a class below which no statistics are learned."""
_RARE_GROUND = 0.05
"""Share of a class's instances below which a label does not count as a ground of the class."""
_BELOW = 2
"""Rows below the lowest pixel of an instance at which its ground is read."""


@dataclass(frozen=True)
class StandingPlaces:
    """Statistics of one class.

    heights, feet: float64 (N,) pixels, of the instances learned from: height of the box, and the row below the lowest
    pixel. slope, offset: height = slope * foot + offset, a robust line. residuals: float64 (N,), log of true over
    expected height. grounds: ids of the labels that instances stand on.
    """

    heights: np.ndarray
    feet: np.ndarray
    slope: float
    offset: float
    residuals: np.ndarray
    grounds: frozenset[int]

    def expected_height(self, foot: float) -> float:
        """Expected height in pixels, at least 1, of an instance whose foot is in this row."""
        return max(1.0, self.slope * foot + self.offset)


def grounds(ids: np.ndarray, labels: np.ndarray, instances: pd.DataFrame) -> np.ndarray:
    """`ground_below` of every row of a frame's instance index (value, x1, y1, x2, y2), int64 (N,).

    Args:
        ids: int32 (H, W).
        labels: label ids (H, W).
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
        box: tight box, xyxy.
        mask: bool, the instance in its box.

    Returns:
        The most frequent label just below the columns that reach into the lowest tenth of the box; -1 where that is
        outside the frame.
    """
    x1, y1, _, y2 = box
    row = y2 - 1 + _BELOW
    if row >= labels.shape[0]:
        return -1
    low = np.atleast_1d(mask[-max(1, (y2 - y1) // 10) :].any(axis=0))
    values, counts = np.unique(labels[row, x1 : x1 + len(low)][low], return_counts=True)
    return int(values[counts.argmax()])


def learn_places(instances: pd.DataFrame) -> StandingPlaces | str:
    """Statistics of the places where a class stands, or the reason why they cannot be learned.

    Args:
        instances: rows of one class, of all train frames: is_group, touches_border, y1, y2, and `ground`.
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
    """Slope and offset after Theil and Sen: medians, so that occluded and lying instances have little weight.

    The slope is never negative: an object that stands lower in the image is nearer.
    """
    from scipy.stats import theilslopes

    if np.ptp(x) == 0:
        return 0.0, float(np.median(y))
    slope = max(0.0, float(theilslopes(y, x).slope))
    return slope, float(np.median(y - slope * x))
