"""Training sets, segmenters, scores, tables and the report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.graph.arms import (
    FROM_SEMANTICS,
    TrainingRun,
    TrainingSet,
    labels_asset,
    run_dimensions,
    training_sets,
    windows_asset,
)
from instsynth_dagster.graph.checkpoints import CheckpointContents
from instsynth_dagster.graph.refs import annotated, city_classes, each
from instsynth_dagster.graph.staleness import Asset, PartitionRef
from instsynth_dagster.settings import Settings


def learning_assets(settings: Settings, contents: CheckpointContents) -> Iterator[Asset]:
    """What each arm trains on, the segmenters, what they score and cost, and the page that tells it."""
    dataset = settings.dataset

    def training_inputs(name: str) -> list[PartitionRef]:
        arm = TrainingSet.parse(name).arm
        cities = list(dataset.train_cities)
        if arm == FROM_SEMANTICS and settings.semantics:
            grouped = list(settings.semantics.cities)
            rest = [city for city in cities if city not in grouped]
            return [*annotated(rest), *each("instances_from_semantics", grouped)]
        sources = [asset for asset in (windows_asset(arm), labels_asset(arm)) if asset]
        windows = [ref for asset in sources for ref in each(asset, city_classes(settings))]
        return [*annotated(cities), *windows]

    def segmenter_settings(key: str) -> Any:
        return [settings.segmenters[key.split("|")[1]].model_dump(mode="json"), settings.classes]

    def validation_inputs() -> list[PartitionRef]:
        cities = list(dataset.val_cities)
        return [*each("frames", cities), *each("instances", cities)]

    yield Asset(
        key="training_sets",
        code_version="2",
        dimensions={"arm": tuple(data.name for data in training_sets(settings))},
        settings=lambda _: settings.classes,
        upstream=training_inputs,
    )
    if not (settings.segmenters and dataset.val_cities):
        return
    runs = run_dimensions(settings)
    yield Asset(
        key="trained_segmenters",
        code_version="2",
        dimensions=runs,
        settings=segmenter_settings,
        files=lambda key: contents.of(settings.segmenters[key.split("|")[1]]),
        upstream=lambda key: [("training_sets", TrainingRun.parse(key.split("|")[0]).data.name)],
    )
    yield Asset(
        key="segmentation_scores",
        code_version="1",
        dimensions=runs,
        settings=lambda key: settings.classes,
        upstream=lambda key: [("trained_segmenters", key), *validation_inputs()],
    )
    all_runs = [f"{run}|{segmenter}" for run in runs["run"] for segmenter in runs["segmenter"]]
    tables: list[PartitionRef] = [
        *each("training_sets", [data.name for data in training_sets(settings)]),
        *each("segmentation_scores", all_runs),
        *validation_inputs(),
    ]
    yield Asset(
        key="evaluation_tables",
        code_version="1",
        dimensions={},
        settings=lambda _: [settings.classes, settings.arms],
        upstream=lambda _: tables,
    )
    yield Asset(
        key="segmenter_costs",
        code_version="1",
        dimensions={},
        settings=lambda _: [],
        upstream=lambda _: [
            *each("trained_segmenters", [f"{runs['run'][0]}|{name}" for name in runs["segmenter"]]),
            *each("segmentation_scores", all_runs),
            *each("frames", dataset.val_cities),
        ],
    )
    examples = [
        (f"{name}/{kind}", key)
        for name in settings.generators
        for kind in ("inpainted_crops", "is_cityscapes", *(("crop_quality",) if settings.judge else ()))
        for key in city_classes(settings)
    ]
    yield Asset(
        key="report",
        code_version="2",
        dimensions={},
        settings=lambda _: settings.gates.model_dump(),
        upstream=lambda _: [
            ("evaluation_tables", UNPARTITIONED),
            *each("trained_segmenters", all_runs),
            *each("segmentation_scores", all_runs),
            ("segmenter_costs", UNPARTITIONED),
            *each("gfss_table", [UNPARTITIONED] if settings.few_shot else []),
            *each("fsis_table", [UNPARTITIONED] if settings.few_shot_instances else []),
            *each("grouping_scores", [UNPARTITIONED] if settings.semantics else []),
            *([("image_quality", UNPARTITIONED)] if settings.judge and settings.generators else []),
            *examples,
        ],
    )
