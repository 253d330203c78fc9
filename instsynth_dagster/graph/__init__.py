"""The common part of all declarations of artifacts: names of arms and runs, lists of partitions, the staleness engine.

The graph itself is the sum of the declarations in `assets/`.
"""

from __future__ import annotations

from instsynth_dagster.graph.arms import (
    ANONYMISED,
    COLOR_JITTER,
    COPY_PASTE,
    FROM_SEMANTICS,
    ORACLE,
    PASTED_INSERT,
    REAL,
    WITHOUT_GENERATOR,
    ZOOM_CROP,
    TrainingRun,
    TrainingSet,
    cheap_rivals,
    composite_sources,
    generator_of,
    inserting_arms,
    instances_asset,
    labels_asset,
    painting_arms,
    run_dimensions,
    training_sets,
    window_arms,
    window_generators,
    window_replicas,
    windows_asset,
)
from instsynth_dagster.graph.data import data_signature, split_of

__all__ = [
    "ANONYMISED",
    "COLOR_JITTER",
    "COPY_PASTE",
    "FROM_SEMANTICS",
    "ORACLE",
    "PASTED_INSERT",
    "REAL",
    "WITHOUT_GENERATOR",
    "ZOOM_CROP",
    "TrainingRun",
    "TrainingSet",
    "cheap_rivals",
    "composite_sources",
    "data_signature",
    "generator_of",
    "inserting_arms",
    "instances_asset",
    "labels_asset",
    "painting_arms",
    "run_dimensions",
    "split_of",
    "training_sets",
    "window_arms",
    "window_generators",
    "window_replicas",
    "windows_asset",
]
