"""Class IoU of semantic maps by the Cityscapes protocol, equal to cityscapesScripts' evalPixelLevelSemanticLabeling."""

from __future__ import annotations

import numpy as np

from instsynth_dagster.evaluation.metrics.panoptic_quality import EVALUATED

PROTOCOL = "mean class IoU (official Cityscapes protocol, 19 classes)"
_OTHER = len(EVALUATED)
_INDEX = np.full(256, _OTHER, dtype=np.int64)
_INDEX[[label.id for label in EVALUATED]] = np.arange(_OTHER)


def semantic_counts(ids: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Pixels of one frame.

    Args:
        ids: int (H, W), Cityscapes instance ids or label ids of the truth.
        predicted: uint8 (H, W), label ids.

    Returns:
        float64 (19, 2): intersection and union. A pixel whose truth is not evaluated counts for no class; one that is
        predicted as a class that is not evaluated counts as missed.

    Raises:
        ValueError: the maps differ in size.
    """
    if ids.shape != predicted.shape:
        raise ValueError(f"the predicted map is {predicted.shape}, the frame {ids.shape}")
    truth = _INDEX[np.where(ids >= 1000, ids // 1000, ids)]
    pairs = np.bincount((truth * (_OTHER + 1) + _INDEX[predicted]).ravel(), minlength=(_OTHER + 1) ** 2)
    confusion = pairs.reshape(_OTHER + 1, _OTHER + 1)[:_OTHER]
    hits = np.diagonal(confusion)
    union = confusion.sum(1) + confusion.sum(0)[:_OTHER] - hits
    return np.stack([hits, union], axis=1).astype(np.float64)


def class_iou(counts: np.ndarray) -> np.ndarray:
    """IoU of each class, float64 (..., 19), from counts (..., 19, 2) summed over frames; nan without any pixel."""
    hits, union = np.moveaxis(counts, -1, 0)
    return np.where(union > 0, hits / np.where(union > 0, union, 1), np.nan)
