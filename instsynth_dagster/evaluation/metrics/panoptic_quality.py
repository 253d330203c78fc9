"""Panoptic quality by the Cityscapes protocol, in memory.

Equal to cityscapesScripts' evalPanopticSemanticLabeling on what its createPanopticImgs makes of the same id maps,
without PNGs in between. A frame shrinks to a few numbers per class, and any resampling of frames is scored from those.
"""

from __future__ import annotations

import numpy as np

from instsynth_dagster.data.formats.cityscapes import LABEL_BY_ID, LABELS

PROTOCOL = "panoptic quality (official Cityscapes protocol, 19 classes)"
EVALUATED = tuple(label for label in LABELS if not label.ignore_in_eval)
"""The 19 classes, in the order of their train ids."""
_INDEX = {label.id: index for index, label in enumerate(EVALUATED)}


def panoptic_counts(ids: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Matches of one frame.

    Args:
        ids: int (H, W), Cityscapes instance ids of the truth. Values below 1000 of a class with instances are crowds;
            classes that are not evaluated are void.
        predicted: int (H, W), the same coding; 0 where nothing is claimed.

    Returns:
        float64 (19, 4): true positives, false positives, false negatives and the sum of IoU over true positives.

    Raises:
        ValueError: the maps differ in size.
    """
    if ids.shape != predicted.shape:
        raise ValueError(f"the predicted map is {predicted.shape}, the frame {ids.shape}")
    truth_of, truth = _segments(ids)
    claim_of, claims = _segments(predicted)
    shape = len(truth_of), len(claim_of)
    pairs = np.bincount((truth * shape[1] + claims).ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    truth_area, claim_area = pairs.sum(1), pairs.sum(0)
    truth_class, claim_class = _classes(truth_of), _classes(claim_of)
    crowd = np.array([value < 1000 and value in LABEL_BY_ID and LABEL_BY_ID[value].has_instances for value in truth_of])
    void = pairs[truth_class < 0].sum(0)

    union = truth_area[:, None] + claim_area[None] - pairs - void[None]
    iou = pairs / np.maximum(union, 1)
    same = (truth_class[:, None] == claim_class[None]) & (truth_class[:, None] >= 0) & ~crowd[:, None]
    matched = same & (iou > 0.5)

    # a claim that lies mostly on void or on a crowd of its class is excused
    on_crowd = (pairs * (crowd[:, None] & (truth_class[:, None] == claim_class[None]))).sum(0)
    false = (claim_class >= 0) & ~matched.any(0) & ((void + on_crowd) <= 0.5 * claim_area)
    missed = (truth_class >= 0) & ~crowd & ~matched.any(1)

    counts = np.zeros((len(EVALUATED), 4))
    rows, _ = np.nonzero(matched)
    np.add.at(counts[:, 0], truth_class[rows], 1)
    np.add.at(counts[:, 3], truth_class[rows], iou[matched])
    np.add.at(counts[:, 1], claim_class[false], 1)
    np.add.at(counts[:, 2], truth_class[missed], 1)
    return counts


def panoptic_quality(counts: np.ndarray) -> np.ndarray:
    """PQ = sum of IoU / (TP + FP / 2 + FN / 2).

    Args:
        counts: float64 (..., 19, 4), summed over frames.

    Returns:
        float64 (..., 19), nan for a class that neither stands in the truth nor is claimed.
    """
    hits, false, missed, iou = np.moveaxis(counts, -1, 0)
    total = hits + 0.5 * false + 0.5 * missed
    return np.where(total > 0, iou / np.where(total > 0, total, 1), np.nan)


def _segments(ids: np.ndarray) -> tuple[list[int], np.ndarray]:
    values, inverse = np.unique(ids, return_inverse=True)
    return values.tolist(), inverse.reshape(ids.shape)


def _classes(values: list[int]) -> np.ndarray:
    """Index into EVALUATED of each segment, -1 for void."""
    labels = [value // 1000 if value >= 1000 else value for value in values]
    return np.array([_INDEX.get(label, -1) for label in labels])
