"""The asset graph as data: who reads which partitions and which settings.

Everything that asks "what is stale?" (the refresh, the plan, Dagster's dependencies) reads this one description.
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
    window_arms,
    window_replicas,
    windows_asset,
)
from instsynth_dagster.graph.checkpoints import CheckpointContents
from instsynth_dagster.graph.data import data_assets, data_signature, split_of
from instsynth_dagster.graph.few_labels import FewShotTask, fsis_assets, gfss_assets, semantics_assets
from instsynth_dagster.graph.learning import learning_assets
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.graph.synthesis import drawn_replicas, synthesis_assets
from instsynth_dagster.settings import Settings

__all__ = [
    "COPY_PASTE",
    "FROM_SEMANTICS",
    "REAL",
    "WITHOUT_GENERATOR",
    "ZOOM_CROP",
    "FewShotTask",
    "TrainingRun",
    "TrainingSet",
    "build_graph",
    "data_signature",
    "drawn_replicas",
    "labels_asset",
    "run_dimensions",
    "split_of",
    "window_arms",
    "window_replicas",
    "windows_asset",
]


def build_graph(settings: Settings) -> dict[str, Asset]:
    """All assets of a params file by key, in topological order."""
    contents = CheckpointContents(settings.artifacts.local)
    assets = [
        *data_assets(settings),
        *synthesis_assets(settings, contents),
        *gfss_assets(settings, contents),
        *fsis_assets(settings, contents),
        *semantics_assets(settings, contents),
        *learning_assets(settings, contents),
    ]
    return {asset.key: asset for asset in assets}
