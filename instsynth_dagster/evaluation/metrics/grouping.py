"""The quality of separating instances where the semantic map is given."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.metrics.instance_ap import MIN_AREA

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=np.uint8)


def grouping_rows(ids: np.ndarray, predicted: np.ndarray, classes: Sequence[str], labels: LabelTable) -> pd.DataFrame:
    """One row per instance of at least `MIN_AREA` pixels: class_name, area, touching, iou.

    `touching`: whether it borders on another instance of its class. `iou`: with the best matching predicted instance of
    its class, 0 where there is none.

    Args:
        ids, predicted: int32 (H, W) id maps.
        labels: label table of the data set.
    """
    rows = []
    for name in classes:
        values = np.unique(ids[labels.of_class(ids, name)])
        claimed = np.where(labels.of_class(predicted, name), predicted, 0)
        for value in values.tolist():
            own = ids == value
            area = int(own.sum())
            if area < MIN_AREA:
                continue
            rim = cv2.dilate(own.astype(np.uint8), _CROSS).astype(bool) & ~own
            rows.append((name, area, bool(labels.of_class(ids[rim], name).any()), _best_iou(own, claimed)))
    return pd.DataFrame(rows, columns=["class_name", "area", "touching", "iou"])


def _best_iou(own: np.ndarray, claimed: np.ndarray) -> float:
    under, shared = np.unique(claimed[own & (claimed > 0)], return_counts=True)
    if not len(under):
        return 0.0
    areas = np.array([(claimed == value).sum() for value in under])
    return float((shared / (own.sum() + areas - shared)).max())


def grouping_scores(rows: pd.DataFrame) -> dict[str, float]:
    """Mean IoU over all instances and over touching ones, nan without any, and the number of touching ones."""
    touching = rows[rows["touching"]]
    return {"iou": rows["iou"].mean(), "iou_touching": touching["iou"].mean(), "touching": len(touching)}
