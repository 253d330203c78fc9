"""Class IoU of semantic maps by the Cityscapes protocol, equal to cityscapesScripts' evalPixelLevelSemanticLabeling."""

from __future__ import annotations

import numpy as np

from instsynth_dagster.data.labels import LabelTable

PROTOCOL = "mean class IoU (official Cityscapes protocol, 19 classes)"


def semantic_counts(ids: np.ndarray, predicted: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Pixel counts of one frame.

    Args:
        ids: int (H, W), the ground-truth id map, or its label ids.
        predicted: int (H, W), label ids.
        labels: label table of the data set; its E evaluated labels are scored.

    Returns:
        float64 (E, 2): intersection and union. A pixel whose ground truth is not evaluated counts for no class; one
        that is predicted as a class that is not evaluated counts as missed.

    Raises:
        ValueError: the maps differ in size.
    """
    if ids.shape != predicted.shape:
        raise ValueError(f"the predicted map is {predicted.shape}, the frame {ids.shape}")
    other = len(labels.evaluated)
    index = np.full(max(labels.by_id) + 1, other, dtype=np.int64)
    index[[label.id for label in labels.evaluated]] = np.arange(other)
    truth, claimed = index[labels.label_ids(ids)], index[predicted]
    pairs = np.bincount((truth * (other + 1) + claimed).ravel(), minlength=(other + 1) ** 2)
    confusion = pairs.reshape(other + 1, other + 1)[:other]
    hits = np.diagonal(confusion)
    union = confusion.sum(1) + confusion.sum(0)[:other] - hits
    return np.stack([hits, union], axis=1).astype(np.float64)


def class_iou(counts: np.ndarray) -> np.ndarray:
    """IoU of each class, float64 (..., E), from counts (..., E, 2) summed over frames; nan for a class without
    pixels.
    """
    hits, union = np.moveaxis(counts, -1, 0)
    return np.where(union > 0, hits / np.where(union > 0, union, 1), np.nan)
