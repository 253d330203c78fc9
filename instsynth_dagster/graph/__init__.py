"""What declarations of artifacts share: names of arms and runs, lists of partitions, the staleness engine.

The graph itself is the sum of the declarations in `assets/`.
"""

from __future__ import annotations

from instsynth_dagster.graph.arms import (
    COPY_PASTE,
    FROM_SEMANTICS,
    REAL,
    WITHOUT_GENERATOR,
    ZOOM_CROP,
    TrainingRun,
    TrainingSet,
    labels_asset,
    run_dimensions,
    training_sets,
    window_arms,
    window_replicas,
    windows_asset,
)
from instsynth_dagster.graph.data import data_signature, split_of

__all__ = [
    "COPY_PASTE",
    "FROM_SEMANTICS",
    "REAL",
    "WITHOUT_GENERATOR",
    "ZOOM_CROP",
    "TrainingRun",
    "TrainingSet",
    "data_signature",
    "labels_asset",
    "run_dimensions",
    "split_of",
    "training_sets",
    "window_arms",
    "window_replicas",
    "windows_asset",
]
