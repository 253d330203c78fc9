"""How much of a difference in AP the val frames can tell: a paired bootstrap over frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from instsynth_dagster.cityscapes import CLASSES
from instsynth_dagster.evaluation.instance_ap import FrameMatches, class_mean, resampled_ap

RESAMPLES = 300
LEVEL = 0.95


@dataclass(frozen=True)
class Resampled:
    """AP and AP50 of one arm: on the frames themselves (`ap`, `ap50`) and on R resamplings, float64 (R,)."""

    ap: float
    ap50: float
    ap_resampled: np.ndarray
    ap50_resampled: np.ndarray


def frame_weights(frames: int, seed: int, resamples: int = RESAMPLES) -> np.ndarray:
    """How often each frame stands in each resampling with replacement, int64 (R, F).

    The same weights serve every arm, which is what pairs the comparison.
    """
    return np.random.default_rng(seed).multinomial(frames, np.full(frames, 1 / frames), size=resamples)


def resample(
    runs: Sequence[Sequence[FrameMatches]], weights: np.ndarray, classes: Sequence[str] = CLASSES
) -> Resampled:
    """AP of one arm, averaged over its trainings (one sequence of F frames for each seed), resampled by `weights`."""
    every = np.vstack([np.ones((1, weights.shape[1]), dtype=np.int64), weights])
    aps = np.mean([resampled_ap(matches, every, classes) for matches in runs], axis=0)
    ap, ap50 = class_mean(aps.mean(axis=2)), class_mean(aps[:, :, 0])
    return Resampled(float(ap[0]), float(ap50[0]), ap[1:], ap50[1:])


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Percentile interval at LEVEL of resampled differences (R,); nan where nothing could be compared."""
    valid = differences[~np.isnan(differences)]
    if not valid.size:
        return float("nan"), float("nan")
    low, high = np.quantile(valid, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
