"""Instance numbers as id maps and prediction tables, and the baseline grouping for SISeg."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.segmenters.contract import PREDICTION_COLUMNS


def numbered(numbers: np.ndarray, label_ids: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Id map int32 (H, W) of instance numbers (0: none) and label ids, both (H, W).

    A pixel whose class has instances but that has no number is unlabeled. Where a class has more instances than the
    coding has room for, all but the largest become its group (the label id itself).
    """
    ids = np.where(np.isin(label_ids, labels.thing_ids), labels.unlabeled, label_ids).astype(np.int32)
    found, first, areas = np.unique(numbers, return_index=True, return_counts=True)
    label_of = label_ids.ravel()[first]
    value_of = np.zeros(int(numbers.max()) + 1, dtype=np.int32)
    for label in np.unique(label_of[found > 0]).tolist():
        own = np.flatnonzero((label_of == label) & (found > 0))
        kept = np.sort(own[np.argsort(-areas[own], kind="stable")][: labels.factor])
        value_of[found[own]] = label
        value_of[found[kept]] = labels.instance_id(label, 0) + np.arange(len(kept))
    return np.where(numbers > 0, value_of[numbers], ids)


def instance_table(
    numbers: np.ndarray, label_ids: np.ndarray, confidence: np.ndarray, labels: LabelTable
) -> pd.DataFrame:
    """Prediction table of instance numbers; the score is the mean confidence (H, W) in 0..1 inside the instance."""
    height, width = numbers.shape
    rows = []
    for number in np.unique(numbers[numbers > 0]).tolist():
        own = numbers == number
        name = labels.by_id[int(label_ids[own][0])].name
        rows.append((name, float(confidence[own].mean()), encode_rle(own)["counts"], height, width))
    table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def connected_components(label_ids: np.ndarray, classes: Sequence[str], labels: LabelTable) -> np.ndarray:
    """Instance numbers int32 (H, W) of the simplest grouping: every 8-connected component of a class is one
    instance.
    """
    numbers = np.zeros(label_ids.shape, dtype=np.int32)
    for name in classes:
        _, pieces = cv2.connectedComponents((label_ids == labels.id_of(name)).astype(np.uint8), connectivity=8)
        numbers[pieces > 0] = pieces[pieces > 0] + numbers.max()
    return numbers
