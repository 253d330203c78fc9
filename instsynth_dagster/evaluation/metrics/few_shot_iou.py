"""Generalised few-shot segmentation: base, novel, mean and harmonic mIoU from a confusion matrix over all queries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

Background = Literal["excluded", "in_base"]
"""Convention: DIaM and BCM exclude the background from the base classes, CAPL includes it; not comparable."""
IGNORED = 255


@dataclass(frozen=True)
class GfssScores:
    """All 0..1. `mean` = (base + novel) / 2, `harmonic` = 2 * base * novel / (base + novel), 0 where both are 0.

    `background` names the convention.
    """

    base: float
    novel: float
    mean: float
    harmonic: float
    background: Background


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 (C, C), truth by prediction, of class maps uint8 (H, W); pixels whose truth is IGNORED are left out."""
    valid = truth != IGNORED
    pairs = truth[valid].astype(np.int64) * classes + predicted[valid]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def gfss_scores(matrix: np.ndarray, novel: Collection[int], background: Background = "excluded") -> GfssScores:
    """Scores of a confusion matrix (C, C); class 0 is the background, `novel` the numbers of the novel classes.

    A class that is neither in the ground truth nor predicted does not count.
    """
    hits = np.diagonal(matrix).astype(float)
    union = matrix.sum(0) + matrix.sum(1) - hits
    iou = np.where(union > 0, hits / np.where(union > 0, union, 1), np.nan)
    is_novel = np.isin(np.arange(len(iou)), list(novel))
    is_base = ~is_novel
    is_base[0] = background == "in_base"
    base, new = (_mean(iou[chosen]) for chosen in (is_base, is_novel))
    total = base + new
    return GfssScores(base, new, total / 2, 2 * base * new / total if total > 0 else 0.0, background)


def _mean(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if valid.size else 0.0
