"""Segmenters trained on each arm with the same number of steps."""

from __future__ import annotations

import dagster as dg

from assets.partitions import Graph
from assets.pictures import curve_picture
from assets.stored import Made, stored_asset
from instsynth_dagster.graph import TrainingRun
from instsynth_dagster.segmenters.launch import train_run
from instsynth_dagster.settings import Settings
from instsynth_dagster.store import PartitionWriter, Store
from resources.device import Device
from resources.progress import progress_bar


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if "trained_segmenters" not in graph:
        return []

    @stored_asset(graph["trained_segmenters"], graph, group="segmentation", kinds={"pytorch", "transformers"})
    def trained_segmenters(out: PartitionWriter, partition: str, store: Store, device: Device) -> Made:
        """A segmenter trained on one arm with one seed: checkpoint folder and loss curve. A killed training goes on
        from its last checkpoint."""
        run, name = partition.split("|")
        recipe = settings.segmenters[name]
        with progress_bar(f"training {name} on {run}", recipe.steps) as progress:
            result = train_run(
                settings,
                store,
                partition,
                out=out.folder("checkpoint"),
                scratch=out.scratch(),
                device=device.name,
                progress=out.meter.over_steps(progress, recipe.checkpoint_every),
            )
        out.add_table(result.curve)
        out.device_seconds = result.seconds
        cost = {
            "seconds_per_step": round(result.seconds / recipe.steps, 4),
            "peak_memory_mb": round(result.peak_memory / 2**20),
        }
        samples = store.require("training_sets", TrainingRun.parse(run).data.name).rows
        loss = float(result.curve["loss"].iloc[-1])
        out.summary.update(steps=recipe.steps, samples=samples, final_loss=loss, **cost)
        return Made({"loss_curve": curve_picture(result.curve)})

    return [trained_segmenters]
