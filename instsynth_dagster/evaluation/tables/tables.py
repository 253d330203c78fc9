"""The tables: instances of each arm (the paper's Table I), scores of each arm, and the uncertainty of differences.

Scores are 0..1 here and times 100 for display (views.py), as the field prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.metrics import coco_ap, instance_ap, panoptic_quality, semantic_iou
from instsynth_dagster.evaluation.metrics.bootstrap import (
    RESAMPLES,
    Resampled,
    frame_weights,
    interval,
    resample,
    run_weights,
)
from instsynth_dagster.evaluation.metrics.coco_ap import CocoMatches, coco_scores
from instsynth_dagster.evaluation.metrics.instance_ap import FrameMatches, average_precision, class_mean
from instsynth_dagster.graph import cheap_rivals
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.training.samples import ANONYMISED

BASELINES = ("real", "zoom_crop")
METRICS = ("ap", "ap50", "coco_ap", "coco_ap50", "pq", "miou")
CITYSCAPES_AP, COCO_AP = "ap", "coco_ap"
"""Columns of an `ap_table` of which one leads: verdict, headline and charts show it."""
PROTOCOL = f"{instance_ap.PROTOCOL}; {coco_ap.PROTOCOL}"
MAPS_PROTOCOL = f"{panoptic_quality.PROTOCOL}; {semantic_iou.PROTOCOL}"

ArmKey = tuple[str, int, str]
"""Segmenter, percent of the labelled frames, arm."""


def leading_metric(labels: LabelTable, protocol: Literal["cityscapes", "coco"] | None = None) -> str:
    """The AP by which arms are compared: that of the named protocol, else that of Cityscapes where its label table is
    used, and of COCO for all other data.
    """
    official = labels == CITYSCAPES if protocol is None else protocol == "cityscapes"
    return CITYSCAPES_AP if official else COCO_AP


@dataclass(frozen=True)
class Run:
    """One segmenter, trained on one arm with one seed, scored on F val frames (the same frames in the same order for
    all runs).

    `panoptic` float64 (F, 19, 4) and `semantic` (F, 19, 2) are the counts of `panoptic_quality` and `semantic_iou`,
    None for a segmenter without maps.
    """

    arm: str
    segmenter: str
    seed: int
    steps: int
    samples: int
    matches: Sequence[FrameMatches]
    coco: CocoMatches
    percent: int = 100
    panoptic: np.ndarray | None = None
    semantic: np.ndarray | None = None


def instance_table(samples: Mapping[str, pd.DataFrame], classes: Sequence[str], labels: LabelTable) -> pd.DataFrame:
    """Table I: instances of each class in each arm's training set.

    Args:
        samples: training set by arm, one row per sample with the columns source ("frame" or "window", or "anonymised",
            which counts as a frame) and instances_<class>, the number of instances of a class in its id map (groups
            excluded).

    Returns:
        Columns arm, class_name, label_id, original, synthetic, augmented (their sum), ratio (augmented / original, nan
        without originals); the last row of an arm is its total, with class_name "total" and label_id -1.
    """
    tables = []
    for arm, rows in samples.items():
        source = rows["source"].replace(ANONYMISED, "frame")
        counts = rows.groupby(source)[[f"instances_{name}" for name in classes]].sum()
        by_source = counts.reindex(["frame", "window"], fill_value=0).to_numpy().astype(np.int64)
        original, synthetic = np.hstack([by_source, by_source.sum(axis=1, keepdims=True)])
        table = pd.DataFrame(
            {
                "arm": arm,
                "class_name": [*classes, "total"],
                "label_id": [*labels.ids_of(classes), -1],
                "original": original,
                "synthetic": synthetic,
                "augmented": original + synthetic,
            }
        )
        tables.append(table.assign(ratio=table["augmented"] / table["original"].where(table["original"] > 0)))
    return pd.concat(tables, ignore_index=True)


def ap_table(runs: Sequence[Run], classes: Sequence[str], lead: str = CITYSCAPES_AP) -> pd.DataFrame:
    """Scores of every segmenter and arm, averaged over training seeds; arms in the order of their first occurrence.

    Columns segmenter, percent (of the labelled frames), arm; ap, ap50, pq, miou, coco_ap, coco_ap50 and with _sd their
    standard deviation over the seeds (nan for one seed, and for maps where there are none); coco_ap75, coco_ap_small,
    coco_ap_medium, coco_ap_large, ap50_<class> (by the leading protocol), seeds, samples, steps, frames, instances (of
    the val frames, those that count), protocol.
    """
    return pd.DataFrame([_ap_row(key, group, classes, lead) for key, group in _by_arm(runs).items()])


def _ap_row(key: ArmKey, runs: Sequence[Run], classes: Sequence[str], lead: str) -> dict[str, object]:
    scores = [average_precision(run.matches, classes) for run in runs]
    coco = [coco_scores(run.coco, classes) for run in runs]
    by_class = [score.per_class for score in (coco if lead == COCO_AP else scores)]
    ap50 = np.mean([per_class["ap50"].to_numpy() for per_class in by_class], axis=0)
    by_seed = {
        "ap": [score.ap for score in scores],
        "ap50": [score.ap50 for score in scores],
        "pq": [_pq(run) for run in runs],
        "miou": [_miou(run) for run in runs],
        "coco_ap": [score.ap for score in coco],
        "coco_ap50": [score.ap50 for score in coco],
    }
    first = runs[0]
    parts = ("ap75", "ap_small", "ap_medium", "ap_large")
    return {
        **dict(zip(("segmenter", "percent", "arm"), key, strict=True)),
        **{metric: float(np.mean(values)) for metric, values in by_seed.items()},
        **{f"{metric}_sd": _deviation(values) for metric, values in by_seed.items()},
        **{f"coco_{part}": np.mean([getattr(score, part) for score in coco]) for part in parts},
        **{f"ap50_{name}": value for name, value in zip(classes, ap50, strict=True)},
        "seeds": len(runs),
        "samples": first.samples,
        "steps": first.steps,
        "frames": len(first.matches),
        "instances": int(scores[0].per_class["instances"].sum()),
        "protocol": PROTOCOL if first.panoptic is None else f"{PROTOCOL}; {MAPS_PROTOCOL}",
    }


def _pq(run: Run) -> float:
    if run.panoptic is None:
        return float("nan")
    return float(class_mean(panoptic_quality.panoptic_quality(run.panoptic.sum(0))))


def _miou(run: Run) -> float:
    return float("nan") if run.semantic is None else float(class_mean(semantic_iou.class_iou(run.semantic.sum(0))))


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


@dataclass(frozen=True)
class Comparison:
    """Every arm resampled with the same weights, from which the difference tables are made."""

    arms: Mapping[ArmKey, Resampled]
    seeds: Mapping[ArmKey, int]
    frames: int
    resamples: int
    lead: str


def compare(
    runs: Sequence[Run],
    seed: int,
    classes: Sequence[str],
    resamples: int = RESAMPLES,
    lead: str = CITYSCAPES_AP,
) -> Comparison:
    """Resample the val frames of all runs together, and the trainings of each arm.

    Args:
        lead: the metric by which arms are compared, "ap" or "coco_ap".

    Raises:
        ValueError: runs that were not scored on the same frames in the same order.
    """
    _check_paired(runs)
    groups = _by_arm([run for run in runs if run.matches])
    frames = len(runs[0].matches) if groups else 0
    weights = frame_weights(max(frames, 1), seed, resamples)
    arms = {
        key: resample(
            group,
            weights,
            run_weights(len(group), content_seed(seed, *key), resamples),
            classes,
            coco_leads=lead == COCO_AP,
        )
        for key, group in groups.items()
    }
    return Comparison(arms, {key: len(group) for key, group in groups.items()}, frames, resamples, lead)


def difference_table(comparison: Comparison) -> pd.DataFrame:
    """Every arm against its baselines, with 95 % intervals by bootstrap over val frames and trainings.

    Columns segmenter, percent, arm, baseline, then for each metric of METRICS the difference (arm minus baseline), and
    with _low and _high the ends of its interval (nan for a segmenter without maps), best_ap50 (of the better of the two
    arms), seeds, frames, resamples.
    """
    rows = []
    for key, baseline in _pairs(comparison):
        row = {**_named(key, baseline)}
        for metric in METRICS:
            row |= dict(
                zip(
                    (metric, f"{metric}_low", f"{metric}_high"),
                    _difference(comparison, key, baseline, metric),
                    strict=True,
                )
            )
        row["best_ap50"] = max(
            float(comparison.arms[of][f"{comparison.lead}50"][0]) for of in (key, (*key[:2], baseline))
        )
        seeds = min(comparison.seeds[key], comparison.seeds[(*key[:2], baseline)])
        rows.append(row | {"seeds": seeds, "frames": comparison.frames, "resamples": comparison.resamples})
    columns = [f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*_NAMES, *columns, "best_ap50", "seeds", "frames", "resamples"])


def part_table(comparison: Comparison) -> pd.DataFrame:
    """Differences by class (AP50 by the leading protocol) and by size (COCO AP of small, medium and large instances).

    Columns segmenter, percent, arm, baseline, part ("class car", "size small"), difference, low, high.
    """
    rows = []
    for key, baseline in _pairs(comparison):
        for metric in comparison.arms[key]:
            part = metric.replace("ap50_", "class ").replace("coco_ap_", "size ")
            if part != metric:
                ends = zip(("difference", "low", "high"), _difference(comparison, key, baseline, metric), strict=True)
                rows.append(_named(key, baseline) | {"part": part} | dict(ends))
    return pd.DataFrame(rows, columns=[*_NAMES, "part", "difference", "low", "high"])


_NAMES = ("segmenter", "percent", "arm", "baseline")


def _named(key: ArmKey, baseline: str) -> dict[str, object]:
    return dict(zip(_NAMES, (*key, baseline), strict=True))


def _pairs(comparison: Comparison) -> list[tuple[ArmKey, str]]:
    """Each arm with those of its baselines that have been trained on."""
    return [
        (key, baseline)
        for key in comparison.arms
        for baseline in _baselines(key[2])
        if (*key[:2], baseline) in comparison.arms
    ]


def _baselines(arm: str) -> Sequence[str]:
    """`real` for all other arms, `zoom_crop` for all but itself and `real`, and for a generator's arm what the same
    integration gives without a generator.
    """
    if arm in BASELINES:
        return BASELINES[: BASELINES.index(arm)]
    return (*BASELINES, *cheap_rivals(arm))


def _difference(comparison: Comparison, key: ArmKey, baseline: str, metric: str) -> tuple[float, float, float]:
    ours, theirs = comparison.arms[key], comparison.arms[(*key[:2], baseline)]
    if metric not in ours or metric not in theirs:
        return (float("nan"),) * 3
    difference = ours[metric] - theirs[metric]
    return (float(difference[0]), *interval(difference[1:]))


def _by_arm(runs: Sequence[Run]) -> dict[ArmKey, list[Run]]:
    groups: dict[ArmKey, list[Run]] = {}
    for run in runs:
        groups.setdefault((run.segmenter, run.percent, run.arm), []).append(run)
    return groups


def _check_paired(runs: Sequence[Run]) -> None:
    for run in runs:
        ours, theirs = ([match.instances for match in r.matches] for r in (run, runs[0]))
        if len(ours) != len(theirs) or not np.array_equal(ours, theirs):
            raise ValueError(
                f"{run.arm} (seed {run.seed}) and {runs[0].arm} (seed {runs[0].seed}) were not scored on the same"
                " frames in the same order; make segmentation_scores again"
            )
