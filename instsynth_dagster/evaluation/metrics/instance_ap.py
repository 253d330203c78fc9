"""Cityscapes instance AP by the official protocol, in memory.

Equal to cityscapesScripts' evalInstanceLevelSemanticLabeling in all its details, without its prediction PNGs, its
hidden cache and its crash when every prediction of a class is ignored (here that class has no detections). A frame is
matched once and reduced to a few bytes for each prediction; any set of frames, or any resampling, is scored from those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.pixel_runs import IdRuns, decode_runs

PROTOCOL = "Cityscapes instance AP (official protocol: IoU > .50:.05:.95, instances of at least 100 px)"
OVERLAPS = np.arange(0.5, 1.0, 0.05)
MIN_AREA = 100
FALSE_POSITIVE, TRUE_POSITIVE, IGNORED = 0, 1, -1


@dataclass(frozen=True)
class FrameMatches:
    """The P predictions of one frame, matched against its ground truth at the 10 overlaps.

    `classes`: names of the C classes; `class_index` int64 (P,) into them, `score` float64 (P,), `outcome` int8 (P, 10)
    of TRUE_POSITIVE, FALSE_POSITIVE or IGNORED, `instances` int64 (C,) number of ground-truth instances that count.
    """

    classes: tuple[str, ...]
    class_index: np.ndarray
    score: np.ndarray
    outcome: np.ndarray
    instances: np.ndarray


@dataclass(frozen=True)
class InstanceScores:
    """AP (mean over classes and overlaps) and AP50, 0..1, nan where there is no ground truth.

    `per_class` has the columns class_name, ap, ap50, instances.
    """

    ap: float
    ap50: float
    per_class: pd.DataFrame


def match_frame(ids: np.ndarray, predictions: pd.DataFrame, labels: LabelTable) -> FrameMatches:
    """The matches of one frame.

    Args:
        ids: int32 (H, W) id map of the frame.
        predictions: columns class_name, score, mask_counts (compressed COCO RLE at the size of the frame); may be
            empty. Masks may overlap. Classes outside `labels.classes` and empty masks are ignored, as in the official
            script.
        labels: label table of the data set.

    Raises:
        ValueError: a mask of another size than the frame, or a score that is not a number.
    """
    classes = labels.classes
    evaluated = predictions[predictions["class_name"].isin(classes)] if len(predictions) else predictions
    names = evaluated["class_name"].tolist() if len(evaluated) else []
    score = evaluated["score"].to_numpy(np.float64) if names else np.zeros(0)
    masks = decode_runs(evaluated["mask_counts"].tolist() if names else [])
    if np.any(masks.sizes != ids.size):
        raise ValueError(f"predicted masks must have the size of the frame, {ids.shape[0]}x{ids.shape[1]} pixels")
    if not np.isfinite(score).all():
        raise ValueError("a predicted score is not a number")
    truth = IdRuns.of(ids)
    overlap = truth.under(masks)
    class_index = np.array([classes.index(name) for name in names], dtype=np.int64)
    kept = (area := np.bincount(masks.owner, masks.stop - masks.start, len(names))) > 0
    class_index, score, area, overlap = class_index[kept], score[kept], area[kept], overlap[kept]

    is_group = ~labels.is_instance(truth.values)
    label, class_ids = labels.label_ids(truth.values), np.array(labels.ids_of(classes), dtype=np.int64)
    small = truth.areas < MIN_AREA
    counts = ~is_group & ~small
    same_class = label[None, :] == class_ids[class_index][:, None]
    iou = np.where(same_class, overlap / (area[:, None] + truth.areas[None, :] - overlap), 0.0)

    # Groups and small instances excuse a prediction by the pixels it shares with them; a small group counts twice, and
    # void is compared on the raw id, so that single caravans and trailers are not void: both as in the official script.
    excused = overlap[:, np.isin(truth.values, labels.void_ids)].sum(1)
    excused = excused + (overlap * same_class) @ (is_group.astype(np.int64) + small)
    return FrameMatches(
        classes,
        class_index,
        score,
        _outcomes(iou, score, counts, excused / area),
        np.array([(counts & (label == label_id)).sum() for label_id in class_ids]),
    )


def _outcomes(iou: np.ndarray, score: np.ndarray, counts: np.ndarray, excused: np.ndarray) -> np.ndarray:
    """int8 (P, 10) from IoU (P, V), scores (P,), ground truth that counts (V,) and the excused share (P,).

    Above an IoU of one half a prediction matches at most one instance, so its best one suffices.
    """
    predictions, overlaps = len(score), len(OVERLAPS)
    outcome = np.full((predictions, overlaps), IGNORED, dtype=np.int8)
    if predictions == 0:
        return outcome
    best = iou.argmax(axis=1)
    matched = iou.max(axis=1)[:, None] > OVERLAPS
    outcome[~matched & (excused[:, None] <= OVERLAPS)] = FALSE_POSITIVE
    outcome[matched & counts[best][:, None]] = FALSE_POSITIVE
    by_score = np.argsort(-score, kind="stable")
    for column in range(overlaps):
        candidates = by_score[matched[by_score, column] & counts[best[by_score]]]
        _, first = np.unique(best[candidates], return_index=True)
        outcome[candidates[first], column] = TRUE_POSITIVE
    return outcome


def average_precision(matches: Sequence[FrameMatches], classes: Sequence[str]) -> InstanceScores:
    """AP and AP50 over frames, for `classes`, all or some of the matched ones."""
    aps = resampled_ap(matches, np.ones((1, len(matches)), dtype=np.int64), classes)[0]
    known = matches[0].classes if matches else tuple(classes)
    indices = [known.index(name) for name in classes]
    instances = sum((frame.instances for frame in matches), np.zeros(len(known), dtype=np.int64))[indices]
    per_class = pd.DataFrame(
        {"class_name": list(classes), "ap": aps.mean(axis=1), "ap50": aps[:, 0], "instances": instances}
    )
    return InstanceScores(float(class_mean(aps.mean(axis=1))), float(class_mean(aps[:, 0])), per_class)


def resampled_ap(matches: Sequence[FrameMatches], weights: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """AP of R resamplings of F frames at once.

    Args:
        matches: F frames.
        weights: int (R, F), multiplicity of each frame in each resampling.

    Returns:
        float64 (R, C, 10) for C classes and the 10 overlaps; nan where a resampling has no instance of a class.
    """
    aps = np.empty((len(weights), len(classes), len(OVERLAPS)))
    frame = np.repeat(np.arange(len(matches)), [len(m.score) for m in matches])
    class_index, score, outcome = (
        np.concatenate([getattr(m, field) for m in matches] or [empty])
        for field, empty in (
            ("class_index", np.zeros(0, dtype=np.int64)),
            ("score", np.zeros(0)),
            ("outcome", np.zeros((0, len(OVERLAPS)), dtype=np.int8)),
        )
    )
    known = matches[0].classes if matches else tuple(classes)
    instances = np.array([m.instances for m in matches]).reshape(len(matches), len(known))
    for column, name in enumerate(classes):
        chosen = np.flatnonzero(class_index == known.index(name))
        chosen = chosen[np.argsort(-score[chosen], kind="stable")]
        total = weights @ instances[:, known.index(name)]
        ranked_weights = weights[:, frame[chosen]]
        for overlap in range(len(OVERLAPS)):
            aps[:, column, overlap] = _curve_area(ranked_weights, score[chosen], outcome[chosen, overlap], total)
    return aps


def _curve_area(weights: np.ndarray, score: np.ndarray, outcome: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve, float64 (R,), of predictions in descending order of score.

    The curve has one point for each distinct score and an artificial one at recall 0, precision 1, joined by straight
    lines, which is what the official convolution with [-.5, 0, .5] integrates. Precision is not made monotone. Ignored
    predictions and those of weight 0 repeat a point and add no area.
    """
    group_end = np.flatnonzero(np.diff(score, append=-np.inf))
    hits = np.cumsum(weights * (outcome == TRUE_POSITIVE), axis=1)[:, group_end]
    reported = np.cumsum(weights * (outcome != IGNORED), axis=1)[:, group_end]
    start = np.ones((len(weights), 1))
    precision = np.hstack([start, np.where(reported > 0, hits / np.maximum(reported, 1), 1.0)])
    recall = np.hstack([0 * start, hits / np.maximum(total, 1)[:, None]])
    area = (np.diff(recall, axis=1) * (precision[:, 1:] + precision[:, :-1])).sum(axis=1) / 2
    return np.where(total > 0, area, np.nan)


def class_mean(aps: np.ndarray) -> np.ndarray:
    """Mean over the last axis (classes), leaving out nan; nan, without a warning, where nothing is left."""
    valid = ~np.isnan(aps)
    count = valid.sum(axis=-1)
    return np.where(count > 0, np.where(valid, aps, 0.0).sum(axis=-1) / np.maximum(count, 1), np.nan)
