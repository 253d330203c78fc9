"""COCO AP of instance masks, in memory, matched and scored by hotcoco and equal to pycocotools in every bit.

It differs from the Cityscapes protocol by design: interpolated precision at 101 recalls, IoU >= threshold, at most 100
detections a frame, no minimum of 100 px, no void; groups are crowds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.pixel_runs import IdRuns

PROTOCOL = "COCO mask AP (as pycocotools, 100 detections a frame, groups are crowds)"
AREAS = ("all", "small", "medium", "large")
"""small below 32^2 px, large above 96^2 px."""
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CocoMatches:
    """The D detections of F frames, matched at each of 4 area ranges and T = 10 overlaps.

    `frame`, `class_index` int64 (D,), `score` float64 (D,), `matched` and `ignored` bool (4, T, D), `instances` int64
    (F, C, 4) number of ground-truth instances that count. `ap` float64 (T, C, 4) of all frames, nan where there is no
    ground truth.
    """

    frame: np.ndarray
    class_index: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    instances: np.ndarray
    ap: np.ndarray


@dataclass(frozen=True)
class CocoScores:
    """COCO AP and its parts, 0..1, nan where there is no ground truth.

    `per_class` has the columns class_name, ap, ap50.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    per_class: pd.DataFrame


def coco_average_precision(
    frames: Iterable[tuple[np.ndarray, pd.DataFrame]], classes: Sequence[str], labels: LabelTable
) -> CocoScores:
    """Scores of frames; arguments as for `coco_matches`."""
    return coco_summary(annotate(frames, classes, labels), classes)


def coco_summary(annotations: Annotations, classes: Sequence[str]) -> CocoScores:
    """Scores of gathered frames."""
    return _summary(evaluate(annotations)[0], classes)


def coco_matches(
    frames: Iterable[tuple[np.ndarray, pd.DataFrame]], classes: Sequence[str], labels: LabelTable
) -> CocoMatches:
    """The matches of frames, computed once for the scores of any resampling.

    Args:
        frames: (ids int32 (H, W), predictions with columns class_name, score, mask_counts) of each frame.
        classes: names of the C classes.
        labels: label table of the data set.
    """
    annotations = annotate(frames, classes, labels)
    ap, evaluation = evaluate(annotations)
    count = len(annotations.images)
    shape = len(classes), len(AREAS), count
    limits = [tuple(limit) for limit in evaluation.params.areaRng]
    found = {
        (limits.index(tuple(group["aRng"])), group["category_id"] - 1, group["image_id"] - 1): group
        for group in evaluation.evalImgs
        if group
    }
    by_area = [[found.get((area, *place), {}) for place in np.ndindex(shape[0], count)] for area in range(shape[1])]
    first = by_area[0]
    sizes = [len(group.get("dtScores", ())) for group in first]
    empty = np.zeros((10, 0), dtype=bool)

    def stacked(key: str) -> np.ndarray:
        groups = [[np.asarray(g[key], dtype=bool) if g else empty for g in area] for area in by_area]
        return np.stack([np.concatenate(area, axis=1) if area else empty for area in groups])

    instances = [[_counting(group) for group in area] for area in by_area]
    return CocoMatches(
        frame=np.repeat(np.tile(np.arange(count), shape[0]), sizes),
        class_index=np.repeat(np.repeat(np.arange(shape[0]), count), sizes),
        score=np.concatenate([np.asarray(g.get("dtScores", ()), dtype=float) for g in first] or [np.zeros(0)]),
        matched=stacked("dtMatched"),
        ignored=stacked("dtIgnore"),
        instances=np.array(instances, dtype=np.int64).reshape(shape[1], shape[0], count).transpose(2, 1, 0),
        ap=ap,
    )


def _counting(group: dict[str, Any]) -> int:
    return int((~np.asarray(group["gtIgnore"], dtype=bool)).sum()) if group else 0


def coco_scores(matches: CocoMatches, classes: Sequence[str]) -> CocoScores:
    """Scores of all frames together."""
    return _summary(matches.ap, classes)


def mean_of_valid(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without nan; nan where all values are."""
    valid = ~np.isnan(values)
    return np.where(valid.any(-1), np.where(valid, values, 0).sum(-1) / np.maximum(valid.sum(-1), 1), np.nan)


def resampled_coco_aps(matches: CocoMatches, weights: np.ndarray) -> np.ndarray:
    """AP of R resamplings of the F frames, of each class, area range and overlap.

    Args:
        weights: int (R, F), multiplicity of each frame in each resampling. The copies of a frame enter at once, where
            pycocotools would process them one after the other.

    Returns:
        float64 (R, C, 4, T), nan without ground truth.
    """
    overlaps = matches.matched.shape[1]
    classes = matches.instances.shape[1]
    aps = np.full((len(weights), classes, len(AREAS), overlaps), np.nan)
    for column in range(classes):
        chosen = np.flatnonzero(matches.class_index == column)
        chosen = chosen[np.argsort(-matches.score[chosen], kind="stable")]
        ranked = weights[:, matches.frame[chosen]].astype(np.float64)
        for area in range(len(AREAS)):
            total = weights @ matches.instances[:, column, area]
            for overlap in range(overlaps):
                matched, ignored = (a[area, overlap, chosen] for a in (matches.matched, matches.ignored))
                aps[:, column, area, overlap] = _interpolated(ranked, matched & ~ignored, ~matched & ~ignored, total)
    return aps


def _interpolated(weights: np.ndarray, hit: np.ndarray, false: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Mean over 101 recalls of the greatest precision at or beyond each, float64 (R,); nan without ground truth."""
    taking_part = hit | false
    weights, hit = weights[:, taking_part], hit[taking_part]
    hits, reported = np.cumsum(weights * hit, axis=1), np.cumsum(weights, axis=1)
    precision = hits / np.maximum(reported, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / np.maximum(total, 1)[:, None]
    reached = np.searchsorted(_RECALLS, recall, side="right")
    new = np.diff(reached, axis=1, prepend=0)
    return np.where(total > 0, (best * new).sum(axis=1) / len(_RECALLS), np.nan)


@dataclass(frozen=True)
class Annotations:
    """Frames, ground truth and detections in COCO's form, masks as run-length codes; no pixels of frames are kept."""

    images: list[dict[str, Any]]
    truth: list[dict[str, Any]]
    detections: list[dict[str, Any]]
    categories: list[dict[str, Any]]

    @classmethod
    def of(cls, classes: Sequence[str]) -> Annotations:
        """Annotations without frames."""
        return cls([], [], [], [{"id": number, "name": name} for number, name in enumerate(classes, 1)])

    def add(self, ids: np.ndarray, predictions: pd.DataFrame, classes: Sequence[str], labels: LabelTable) -> None:
        """Add a frame; arguments as for `coco_matches`."""
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "height": ids.shape[0], "width": ids.shape[1]})
        self.truth.extend(_truth(image_id, ids, classes, labels, len(self.truth) + 1))
        self.detections.extend(_detections(image_id, ids.shape, predictions, classes, len(self.detections) + 1))


def annotate(
    frames: Iterable[tuple[np.ndarray, pd.DataFrame]], classes: Sequence[str], labels: LabelTable
) -> Annotations:
    """Annotations of frames, their masks extracted from id maps; arguments as for `coco_matches`."""
    found = Annotations.of(classes)
    for ids, predictions in frames:
        found.add(ids, predictions, classes, labels)
    return found


def evaluate(annotations: Annotations) -> tuple[np.ndarray, Any]:
    """AP float64 (10 overlaps, C classes, 4 areas), nan without ground truth, and the finished evaluation."""
    from hotcoco import COCO, COCOeval

    def index(found: list[dict[str, Any]]) -> Any:
        return COCO({"images": annotations.images, "categories": annotations.categories, "annotations": found})

    evaluation = COCOeval(index(annotations.truth), index(annotations.detections), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    results: Any = evaluation.eval
    precision = np.asarray(results["precision"])
    return np.where(precision < 0, np.nan, precision)[..., -1].mean(axis=1), evaluation


def _truth(
    image_id: int, ids: np.ndarray, classes: Sequence[str], labels: LabelTable, first: int
) -> list[dict[str, Any]]:
    runs = IdRuns.of(ids)
    category = {labels.id_of(name): number for number, name in enumerate(classes, 1)}
    found: list[dict[str, Any]] = []
    for value, area in zip(runs.values.tolist(), runs.areas.tolist(), strict=True):
        label_id = labels.label_id(value)
        if label_id in category:
            rle = runs.rle(value)
            text = {"size": rle["size"], "counts": rle["counts"].decode("ascii")}
            crowd = int(value < labels.factor)
            found.append(_annotation(first + len(found), image_id, category[label_id], text, area) | {"iscrowd": crowd})
    return found


def _detections(
    image_id: int, shape: tuple[int, ...], predictions: pd.DataFrame, classes: Sequence[str], first: int
) -> list[dict[str, Any]]:
    if not len(predictions):
        return []
    size = [int(side) for side in shape[:2]]
    category = {name: number for number, name in enumerate(classes, 1)}
    kept = predictions[predictions["class_name"].isin(category)]
    counts = kept["mask_counts"].tolist()
    areas = coco_mask.area([{"size": size, "counts": text.encode("ascii")} for text in counts]).tolist()
    rows = zip(kept["class_name"], kept["score"].tolist(), counts, areas, strict=True)
    return [
        _annotation(number, image_id, category[name], {"size": size, "counts": text}, area) | {"score": score}
        for number, (name, score, text, area) in enumerate(rows, first)
    ]


def _annotation(number: int, image_id: int, category_id: int, rle: dict[str, Any], area: int) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": rle,
        "area": area,
        "bbox": [0, 0, 1, 1],
        "iscrowd": 0,
    }


def _summary(ap: np.ndarray, classes: Sequence[str]) -> CocoScores:
    """Scores from AP (10 overlaps, C classes, 4 areas)."""
    every, small, medium, large = (ap[..., area] for area in range(4))
    per_class = pd.DataFrame(
        {
            "class_name": list(classes),
            "ap": [_mean(every[:, column]) for column in range(len(classes))],
            "ap50": every[0],
        }
    )
    return CocoScores(
        _mean(every), _mean(every[0]), _mean(every[5]), _mean(small), _mean(medium), _mean(large), per_class
    )


def _mean(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if valid.size else float("nan")
