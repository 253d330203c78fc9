"""Segmenters trained on each arm with the same number of steps."""

from __future__ import annotations

from functools import partial

import dagster as dg

from assets.shared.partitions import Graph
from assets.shared.pictures import curve_picture
from assets.shared.stored import Made, stored_asset
from assets.training import train_into
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.graph import TrainingRun
from instsynth_dagster.segmenters.training.launch import train_run
from instsynth_dagster.settings import Settings
from resources.device import Device


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if "trained_segmenters" not in graph:
        return []

    @stored_asset(graph["trained_segmenters"], graph, group="segmentation", kinds={"pytorch", "transformers"})
    def trained_segmenters(out: PartitionWriter, partition: str, store: Store, device: Device) -> Made:
        """A segmenter trained on one arm with one seed: checkpoint folder and loss curve. A killed training goes on
        from its last checkpoint."""
        run, name = partition.split("|")
        recipe = settings.segmenters[name]
        training = partial(train_run, settings, store, partition)
        result = train_into(out, f"training {name} on {run}", recipe, device, training)
        cost = {
            "seconds_per_step": round(result.seconds / recipe.steps, 4),
            "peak_memory_mb": round(result.peak_memory / 2**20),
        }
        samples = store.require("training_sets", TrainingRun.parse(run).data.name).rows
        out.summary.update(samples=samples, **cost)
        return Made({"loss_curve": curve_picture(result.curve)})

    return [trained_segmenters]
