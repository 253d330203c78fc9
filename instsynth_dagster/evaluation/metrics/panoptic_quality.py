"""Panoptic quality by the Cityscapes protocol, in memory.

Equal to cityscapesScripts' evalPanopticSemanticLabeling applied to the output of createPanopticImgs for the same id
maps, without PNGs in between. A frame is reduced to a few numbers for each class, from which any resampling of frames
is scored.
"""

from __future__ import annotations

import numpy as np

from instsynth_dagster.data.labels import LabelTable

PROTOCOL = "panoptic quality (official Cityscapes protocol, 19 classes)"


def panoptic_counts(ids: np.ndarray, predicted: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Counts of matches of one frame.

    Args:
        ids: int (H, W), the ground-truth id map. Values below `labels.factor` of a class with instances are crowds;
            classes that are not evaluated are void.
        predicted: int (H, W), in the same coding; 0 where nothing is predicted.
        labels: label table of the data set; its E evaluated labels are scored.

    Returns:
        float64 (E, 4): true positives, false positives, false negatives and the sum of IoU over true positives.

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
    truth_class, claim_class = _classes(truth_of, labels), _classes(claim_of, labels)
    crowd = ~labels.is_instance(truth_of) & np.isin(truth_of, labels.thing_ids)
    void = pairs[truth_class < 0].sum(0)

    union = truth_area[:, None] + claim_area[None] - pairs - void[None]
    iou = pairs / np.maximum(union, 1)
    same = (truth_class[:, None] == claim_class[None]) & (truth_class[:, None] >= 0) & ~crowd[:, None]
    matched = same & (iou > 0.5)

    # a predicted segment mostly on void or on a crowd of its class is ignored
    on_crowd = (pairs * (crowd[:, None] & (truth_class[:, None] == claim_class[None]))).sum(0)
    false = (claim_class >= 0) & ~matched.any(0) & ((void + on_crowd) <= 0.5 * claim_area)
    missed = (truth_class >= 0) & ~crowd & ~matched.any(1)

    counts = np.zeros((len(labels.evaluated), 4))
    rows, _ = np.nonzero(matched)
    np.add.at(counts[:, 0], truth_class[rows], 1)
    np.add.at(counts[:, 3], truth_class[rows], iou[matched])
    np.add.at(counts[:, 1], claim_class[false], 1)
    np.add.at(counts[:, 2], truth_class[missed], 1)
    return counts


def panoptic_quality(counts: np.ndarray) -> np.ndarray:
    """PQ = sum of IoU / (TP + FP / 2 + FN / 2).

    Args:
        counts: float64 (..., E, 4), summed over frames.

    Returns:
        float64 (..., E), nan for a class that is neither in the ground truth nor predicted.
    """
    hits, false, missed, iou = np.moveaxis(counts, -1, 0)
    total = hits + 0.5 * false + 0.5 * missed
    return np.where(total > 0, iou / np.where(total > 0, total, 1), np.nan)


def _segments(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, inverse = np.unique(ids, return_inverse=True)
    return values, inverse.reshape(ids.shape)


def _classes(values: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Index into `labels.evaluated` of each segment, -1 for void."""
    index = {label.id: number for number, label in enumerate(labels.evaluated)}
    return np.array([index.get(label_id, -1) for label_id in labels.label_ids(values).tolist()])
