"""How much of a difference the val frames can tell: a paired bootstrap over frames, for every metric at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from instsynth_dagster.data.formats.cityscapes import CLASSES
from instsynth_dagster.evaluation.metrics.coco_ap import AREAS, CocoMatches, resampled_coco_ap
from instsynth_dagster.evaluation.metrics.instance_ap import FrameMatches, class_mean, resampled_ap
from instsynth_dagster.evaluation.metrics.panoptic_quality import panoptic_quality
from instsynth_dagster.evaluation.metrics.semantic_iou import class_iou

RESAMPLES = 300
LEVEL = 0.95

Resampled = Mapping[str, np.ndarray]
"""Metric -> float64 (1 + R,): its value on the frames themselves, then on R resamplings of them."""


class Scored(Protocol):
    """What one training got on the F val frames; counts of maps are None where a segmenter gives none."""

    @property
    def matches(self) -> Sequence[FrameMatches]: ...
    @property
    def coco(self) -> CocoMatches | None: ...
    @property
    def panoptic(self) -> np.ndarray | None:
        """float64 (F, 19, 4)"""
        ...

    @property
    def semantic(self) -> np.ndarray | None:
        """float64 (F, 19, 2)"""
        ...


def frame_weights(frames: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each frame stands in each resampling with replacement, int64 (R, F).

    The same weights serve every arm, which is what pairs the comparison.
    """
    return np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), size=resamples)


def resample(runs: Sequence[Scored], weights: np.ndarray, classes: Sequence[str] = CLASSES) -> Resampled:
    """The metrics of one arm, averaged over its trainings, on all frames and on the resamplings `weights` (R, F).

    Keys: ap, ap50, ap50_<class>, coco_ap_small, coco_ap_medium, coco_ap_large, pq, miou; the last five only where all
    runs have what they need.
    """
    every = np.vstack([np.ones((1, weights.shape[1]), dtype=np.int64), weights])
    found = [_metrics(run, every, classes) for run in runs]
    return {metric: np.mean([metrics[metric] for metrics in found], axis=0) for metric in found[0]}


def _metrics(run: Scored, weights: np.ndarray, classes: Sequence[str]) -> dict[str, np.ndarray]:
    aps = resampled_ap(run.matches, weights, classes)
    metrics = {"ap": class_mean(aps.mean(axis=2)), "ap50": class_mean(aps[:, :, 0])}
    metrics |= {f"ap50_{name}": aps[:, column, 0] for column, name in enumerate(classes)}
    if run.coco is not None:
        by_area = resampled_coco_ap(run.coco, weights)
        metrics |= {f"coco_ap_{area}": by_area[:, column] for column, area in enumerate(AREAS) if area != "all"}
    if run.panoptic is not None:
        metrics["pq"] = class_mean(panoptic_quality(np.tensordot(weights, run.panoptic, axes=1)))
    if run.semantic is not None:
        metrics["miou"] = class_mean(class_iou(np.tensordot(weights, run.semantic, axes=1)))
    return metrics


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Percentile interval at LEVEL of resampled differences (R,); nan where nothing could be compared."""
    valid = differences[~np.isnan(differences)]
    if not valid.size:
        return float("nan"), float("nan")
    low, high = np.quantile(valid, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
