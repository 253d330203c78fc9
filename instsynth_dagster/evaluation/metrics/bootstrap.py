"""The uncertainty of a difference: a bootstrap over val frames and trainings, for every metric at once.

Frames are resampled for all arms together, which pairs the comparison. The trainings are resampled for each arm
separately: seeds of different arms have nothing in common that would pair them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from instsynth_dagster.evaluation.metrics.coco_ap import AREAS, CocoMatches, mean_of_valid, resampled_coco_aps
from instsynth_dagster.evaluation.metrics.instance_ap import FrameMatches, class_mean, resampled_ap
from instsynth_dagster.evaluation.metrics.panoptic_quality import panoptic_quality
from instsynth_dagster.evaluation.metrics.semantic_iou import class_iou

RESAMPLES = 300
LEVEL = 0.95

Resampled = Mapping[str, np.ndarray]
"""For each metric float64 (1 + R,): its value on the original frames, then on R resamplings of them."""


class Scored(Protocol):
    """Results of one training on the F val frames; counts of maps are None for a segmenter without maps."""

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
    """Multiplicity of each frame in each resampling with replacement, int64 (R, F).

    All arms use the same weights, which pairs the comparison.
    """
    return np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), size=resamples)


def run_weights(runs: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """Weight of each of an arm's S trainings in each resampling, float64 (R, S), rows sum to 1.

    S - 1 of them are drawn with replacement, because drawing S would make the variance of the mean too small by (S - 1)
    / S, which is a half for two seeds (McCarthy and Snowden 1985). A single training always has weight 1.
    """
    if runs == 1:
        return np.ones((resamples, 1))
    drawn = np.random.default_rng(seed).multinomial(runs - 1, np.full(runs, 1 / runs), size=resamples)
    return drawn / (runs - 1)


def resample(
    runs: Sequence[Scored], weights: np.ndarray, shares: np.ndarray, classes: Sequence[str], coco_leads: bool = False
) -> Resampled:
    """The metrics of one arm, averaged over its trainings, on the original frames and on resamplings.

    Args:
        runs: the S trainings.
        weights: `frame_weights` (R, F).
        shares: `run_weights` (R, S).
        coco_leads: whether ap50_<class> is COCO's, else that of Cityscapes.

    Returns:
        Keys ap, ap50, ap50_<class>, coco_ap, coco_ap50, coco_ap_small, coco_ap_medium, coco_ap_large, pq, miou; the
        last seven only where all runs have the necessary counts.
    """
    every = np.vstack([np.ones((1, weights.shape[1]), dtype=np.int64), weights])
    found = [_metrics(run, every, classes, coco_leads) for run in runs]
    share = np.vstack([np.full((1, len(runs)), 1 / len(runs)), shares]).T
    return {metric: np.sum([metrics[metric] for metrics in found] * share, axis=0) for metric in found[0]}


def _metrics(run: Scored, weights: np.ndarray, classes: Sequence[str], coco_leads: bool) -> dict[str, np.ndarray]:
    aps = resampled_ap(run.matches, weights, classes)
    metrics = {"ap": class_mean(aps.mean(axis=2)), "ap50": class_mean(aps[:, :, 0])}
    coco = None if run.coco is None else resampled_coco_aps(run.coco, weights)
    of_class = coco[:, :, 0, 0] if coco is not None and coco_leads else aps[:, :, 0]
    metrics |= {f"ap50_{name}": of_class[:, column] for column, name in enumerate(classes)}
    if coco is not None:
        names = ("coco_ap", *(f"coco_ap_{area}" for area in AREAS[1:]))
        flat = coco.transpose(2, 0, 1, 3).reshape(len(AREAS), len(weights), -1)
        metrics |= {name: mean_of_valid(flat[column]) for column, name in enumerate(names)}
        metrics["coco_ap50"] = mean_of_valid(coco[:, :, 0, 0])
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
