"""How well instances are told apart where the semantic map is given."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import LABEL_BY_NAME
from instsynth_dagster.evaluation.metrics.instance_ap import MIN_AREA

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)


def grouping_rows(ids: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """One row per instance of at least `MIN_AREA` pixels: class_name, area, touching, iou.

    `touching`: it borders on another instance of its class. `iou`: with the predicted instance of its class that fits
    best, 0 where there is none.

    Args:
        ids, predicted: int32 (H, W) Cityscapes instance ids.
    """
    rows = []
    for name in classes:
        label = LABEL_BY_NAME[name].id
        values = np.unique(ids[ids // 1000 == label])
        for value in values.tolist():
            own = ids == value
            area = int(own.sum())
            if area < MIN_AREA:
                continue
            rim = cv2.dilate(own.astype(np.uint8), _CROSS).astype(bool) & ~own
            rows.append((name, area, bool((ids[rim] // 1000 == label).any()), _best_iou(own, predicted, label)))
    return pd.DataFrame(rows, columns=["class_name", "area", "touching", "iou"])


def _best_iou(own: np.ndarray, predicted: np.ndarray, label: int) -> float:
    under, shared = np.unique(predicted[own & (predicted // 1000 == label)], return_counts=True)
    if not len(under):
        return 0.0
    areas = np.array([(predicted == value).sum() for value in under])
    return float((shared / (own.sum() + areas - shared)).max())


def grouping_scores(rows: pd.DataFrame) -> dict[str, float]:
    """Mean IoU over all instances and over touching ones, nan without any, and how many touch."""
    touching = rows[rows["touching"]]
    return {"iou": rows["iou"].mean(), "iou_touching": touching["iou"].mean(), "touching": len(touching)}
