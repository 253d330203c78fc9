"""The tables: instances of each arm (the paper's Table I), AP of each arm, and how sure the differences are.

AP is 0..1 here and times 100 where people read it (views.py), as the field prints it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from instsynth_dagster.cityscapes import CLASSES, LABEL_BY_NAME
from instsynth_dagster.evaluation import coco_ap, instance_ap
from instsynth_dagster.evaluation.bootstrap import RESAMPLES, frame_weights, interval, resample
from instsynth_dagster.evaluation.coco_ap import CocoScores
from instsynth_dagster.evaluation.instance_ap import FrameMatches, average_precision

BASELINES = ("real", "zoom_crop")
PROTOCOL = f"{instance_ap.PROTOCOL}; {coco_ap.PROTOCOL}"


@dataclass(frozen=True)
class Run:
    """One segmenter, trained on one arm with one seed, scored on the val frames (all runs: same frames, same order)."""

    arm: str
    segmenter: str
    seed: int
    steps: int
    samples: int
    matches: Sequence[FrameMatches]
    coco: CocoScores


def instance_table(samples: Mapping[str, pd.DataFrame], classes: Sequence[str] = CLASSES) -> pd.DataFrame:
    """Table I: instances of each class in each arm's training set.

    Args:
        samples: training set by arm, one row per sample with the columns source ("frame" or "window") and
            instances_<class>, the number of instances of a class in its id map (groups left out).

    Returns:
        Columns arm, class_name, train_id, original, synthetic, augmented (their sum), ratio (augmented / original,
        nan without originals); the last row of an arm is its total, with class_name "total" and train_id -1.
    """
    tables = []
    for arm, rows in samples.items():
        counts = rows.groupby("source")[[f"instances_{name}" for name in classes]].sum()
        by_source = counts.reindex(["frame", "window"], fill_value=0).to_numpy().astype(np.int64)
        original, synthetic = np.hstack([by_source, by_source.sum(axis=1, keepdims=True)])
        table = pd.DataFrame(
            {
                "arm": arm,
                "class_name": [*classes, "total"],
                "train_id": [*(LABEL_BY_NAME[name].train_id for name in classes), -1],
                "original": original,
                "synthetic": synthetic,
                "augmented": original + synthetic,
            }
        )
        tables.append(table.assign(ratio=table["augmented"] / table["original"].where(table["original"] > 0)))
    return pd.concat(tables, ignore_index=True)


def ap_table(runs: Sequence[Run], classes: Sequence[str] = CLASSES) -> pd.DataFrame:
    """AP of every segmenter and arm, averaged over training seeds; arms in the order in which they first stand.

    Columns segmenter, arm, ap, ap50, ap_spread (largest minus smallest AP of the seeds), coco_ap, coco_ap50, coco_ap75,
    coco_ap_small, coco_ap_medium, coco_ap_large, ap50_<class>, seeds, samples, steps, frames, instances (of the val
    frames, those that count), protocol.
    """
    return pd.DataFrame([_ap_row(group, classes) for group in _by_arm(runs).values()])


def _ap_row(runs: Sequence[Run], classes: Sequence[str]) -> dict[str, object]:
    scores = [average_precision(run.matches, classes) for run in runs]
    aps = np.array([score.ap for score in scores])
    ap50 = np.mean([score.per_class["ap50"].to_numpy() for score in scores], axis=0)
    first = runs[0]
    parts = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    return {
        "segmenter": first.segmenter,
        "arm": first.arm,
        "ap": aps.mean(),
        "ap50": np.mean([score.ap50 for score in scores]),
        "ap_spread": aps.max() - aps.min(),
        **{f"coco_{part}": np.mean([getattr(run.coco, part) for run in runs]) for part in parts},
        **{f"ap50_{name}": value for name, value in zip(classes, ap50, strict=True)},
        "seeds": len(runs),
        "samples": first.samples,
        "steps": first.steps,
        "frames": len(first.matches),
        "instances": int(scores[0].per_class["instances"].sum()),
        "protocol": PROTOCOL,
    }


def difference_table(
    runs: Sequence[Run], seed: int, classes: Sequence[str] = CLASSES, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Every arm against the baselines `real` and `zoom_crop`, with 95 % intervals by paired bootstrap over val frames.

    Columns segmenter, arm, baseline, ap, ap_low, ap_high, ap50, ap50_low, ap50_high (differences, arm minus baseline,
    and the ends of their intervals), seeds, frames, resamples.

    Raises:
        ValueError: runs that were not scored on the same frames in the same order.
    """
    _check_paired(runs)
    groups = _by_arm([run for run in runs if run.matches])
    weights = frame_weights(len(runs[0].matches) if groups else 1, seed, resamples)
    resampled = {key: resample([run.matches for run in group], weights, classes) for key, group in groups.items()}
    rows = []
    for (segmenter, arm), ours in resampled.items():
        for baseline in BASELINES[: BASELINES.index(arm) if arm in BASELINES else None]:
            if (segmenter, baseline) in resampled:
                theirs = resampled[segmenter, baseline]
                low, high = interval(ours.ap_resampled - theirs.ap_resampled)
                low50, high50 = interval(ours.ap50_resampled - theirs.ap50_resampled)
                seeds = min(len(groups[segmenter, name]) for name in (arm, baseline))
                ap, ap50 = ours.ap - theirs.ap, ours.ap50 - theirs.ap50
                row = (segmenter, arm, baseline, ap, low, high, ap50, low50, high50)
                rows.append((*row, seeds, len(runs[0].matches), resamples))
    return pd.DataFrame(rows, columns=list(_DIFFERENCE_COLUMNS))


_DIFFERENCE_COLUMNS = (
    *("segmenter", "arm", "baseline", "ap", "ap_low", "ap_high", "ap50", "ap50_low", "ap50_high"),
    *("seeds", "frames", "resamples"),
)


def _by_arm(runs: Sequence[Run]) -> dict[tuple[str, str], list[Run]]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.segmenter, run.arm), []).append(run)
    return groups


def _check_paired(runs: Sequence[Run]) -> None:
    for run in runs:
        ours, theirs = ([match.instances for match in r.matches] for r in (run, runs[0]))
        if len(ours) != len(theirs) or not np.array_equal(ours, theirs):
            raise ValueError(
                f"{run.arm} (seed {run.seed}) and {runs[0].arm} (seed {runs[0].seed}) were not scored on the same"
                " frames in the same order; make segmentation_scores again"
            )
