"""COCO AP of instance masks: pycocotools' COCOeval on the same id maps and predictions, in memory and silent.

It differs from the Cityscapes protocol on purpose: interpolated precision at 101 recalls, IoU >= threshold, at most 100
detections a frame, no floor of 100 px, no void; groups are crowds.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.cityscapes import CLASSES, LABEL_BY_NAME
from instsynth_dagster.evaluation.runs import IdRuns

PROTOCOL = "COCO mask AP (pycocotools, 100 detections a frame, groups are crowds)"


@dataclass(frozen=True)
class CocoScores:
    """COCO AP and its parts, 0..1, nan where there is no ground truth.

    Areas as in COCO: small below 32^2 px, large above 96^2 px. `per_class` has the columns class_name, ap, ap50.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    per_class: pd.DataFrame


def coco_average_precision(
    frames: Iterable[tuple[np.ndarray, pd.DataFrame]], classes: Sequence[str] = CLASSES
) -> CocoScores:
    """Score frames of (ids int32 (H, W), predictions with columns class_name, score, mask_counts).

    Frames are read once and only their run-length codes are kept.
    """
    from pycocotools.cocoeval import COCOeval

    images: list[dict[str, Any]] = []
    truth: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image_id, (ids, predictions) in enumerate(frames, 1):
        images.append({"id": image_id, "height": ids.shape[0], "width": ids.shape[1]})
        truth += _truth(image_id, ids, classes)
        detections += _detections(image_id, ids.shape, predictions, classes)
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, 1)]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_index(images, categories, truth), _index(images, categories, detections), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    return _summary(evaluation.eval["precision"], classes)


def _truth(image_id: int, ids: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    runs = IdRuns.of(ids)
    category = {LABEL_BY_NAME[name].id: number for number, name in enumerate(classes, 1)}
    found = []
    for value, area in zip(runs.values.tolist(), runs.areas.tolist(), strict=True):
        label_id = value if value < 1000 else value // 1000
        if label_id in category:
            crowd = int(value < 1000)
            found.append(_annotation(image_id, category[label_id], runs.rle(value), area) | {"iscrowd": crowd})
    return found


def _detections(
    image_id: int, shape: tuple[int, ...], predictions: pd.DataFrame, classes: Sequence[str]
) -> list[dict[str, Any]]:
    from pycocotools import mask as coco_mask

    found = []
    for row in predictions.to_dict("records"):
        if row["class_name"] in classes:
            rle = {"size": [int(side) for side in shape[:2]], "counts": row["mask_counts"].encode("ascii")}
            annotation = _annotation(image_id, classes.index(row["class_name"]) + 1, rle, int(coco_mask.area(rle)))
            found.append(annotation | {"score": float(row["score"]), "iscrowd": 0})
    return found


def _annotation(image_id: int, category_id: int, rle: dict[str, Any], area: int) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "segmentation": rle, "area": area}


def _index(images: list[dict[str, Any]], categories: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    numbered = [annotation | {"id": number} for number, annotation in enumerate(annotations, 1)]
    coco.dataset = {"images": images, "categories": categories, "annotations": numbered}
    coco.createIndex()
    return coco


def _summary(precision: np.ndarray, classes: Sequence[str]) -> CocoScores:
    """From COCOeval's precision (10 IoU, 101 recalls, C classes, 4 areas, 3 detection limits), -1 where undefined."""
    at_100 = np.where(precision < 0, np.nan, precision)[..., -1]
    every, small, medium, large = (at_100[..., area] for area in range(4))
    per_class = pd.DataFrame(
        {
            "class_name": list(classes),
            "ap": [_mean(every[:, :, column]) for column in range(len(classes))],
            "ap50": [_mean(every[0, :, column]) for column in range(len(classes))],
        }
    )
    ap, ap50, ap75 = _mean(every), _mean(every[0]), _mean(every[5])
    return CocoScores(ap, ap50, ap75, _mean(small), _mean(medium), _mean(large), per_class)


def _mean(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if valid.size else float("nan")
