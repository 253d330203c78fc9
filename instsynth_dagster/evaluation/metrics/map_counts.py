"""Counts of panoptic and semantic maps as a table, one row for each frame and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.data.images import encode_ids
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.metrics.instance_ap import class_mean
from instsynth_dagster.evaluation.metrics.panoptic_quality import panoptic_counts, panoptic_quality
from instsynth_dagster.evaluation.metrics.semantic_iou import class_iou, semantic_counts
from instsynth_dagster.segmenters.contract import Maps

MAPS, COUNTS, PICTURES = "maps", "counts.parquet", "maps.parquet"
"""Folder and files in which `segmentation_scores` keeps the counts of maps, and the maps."""
PANOPTIC, SEMANTIC = ("tp", "fp", "fn", "iou"), ("intersection", "union")


def map_counts(frame_id: str, ids: np.ndarray, maps: Maps, labels: LabelTable) -> pd.DataFrame:
    """Counts of one frame against its ids int32 (H, W): frame_id, class_name and the columns PANOPTIC and SEMANTIC."""
    counts = np.hstack([panoptic_counts(ids, maps.panoptic, labels), semantic_counts(ids, maps.semantic, labels)])
    table = pd.DataFrame(counts, columns=[*PANOPTIC, *SEMANTIC])
    table.insert(0, "class_name", [label.name for label in labels.evaluated])
    table.insert(0, "frame_id", frame_id)
    return table


def map_pictures(frame_id: str, maps: Maps) -> dict[str, Any]:
    """A row with both maps as PNG (`decode_ids`): panoptic_png holds instance ids, semantic_png holds label ids."""
    return {
        "frame_id": frame_id,
        "panoptic_png": encode_ids(maps.panoptic),
        "semantic_png": encode_ids(maps.semantic),
    }


def map_scores(table: pd.DataFrame) -> dict[str, float]:
    """PQ and mIoU, 0..1, of all frames of a table of `map_counts`."""
    panoptic, semantic = stacked_counts(table, table["frame_id"].unique().tolist())
    return {
        "pq": float(class_mean(panoptic_quality(panoptic.sum(0)))),
        "miou": float(class_mean(class_iou(semantic.sum(0)))),
    }


def stacked_counts(table: pd.DataFrame, frame_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Counts float64 (F, E, 4) and (F, E, 2) of the frames, in their order; classes in the order of the table."""
    by_frame: Mapping[str, pd.DataFrame] = dict(iter(table.groupby("frame_id")))
    names = table["class_name"].unique().tolist()
    rows = [by_frame[frame_id].set_index("class_name").loc[names] for frame_id in frame_ids]
    return (
        np.stack([row[list(PANOPTIC)].to_numpy(float) for row in rows]),
        np.stack([row[list(SEMANTIC)].to_numpy(float) for row in rows]),
    )
