"""Segmenters trained on each arm with the same number of steps."""

from __future__ import annotations

import dagster as dg

from assets.partitions import Graph
from assets.pictures import curve_picture
from assets.stored import Made, stored_asset
from instsynth_dagster.graph import REAL, arm_and_seed
from instsynth_dagster.segmenters.base import get_segmenter
from instsynth_dagster.segmenters.samples import ArmDataset
from instsynth_dagster.settings import Settings
from instsynth_dagster.store import PartitionWriter, Store
from resources.dataset import Dataset
from resources.device import Device
from resources.progress import progress_bar


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if "trained_segmenters" not in graph:
        return []

    @stored_asset(graph["trained_segmenters"], graph, group="segmentation", kinds={"pytorch", "transformers"})
    def trained_segmenters(
        out: PartitionWriter, partition: str, store: Store, dataset: Dataset, device: Device
    ) -> Made:
        """A segmenter trained on one arm with one seed: checkpoint folder and loss curve. A killed training goes on
        from its last checkpoint."""
        run, name = partition.split("|")
        arm, seed = arm_and_seed(run)
        samples = store.read("training_sets", arm)
        windows = None if arm == REAL else f"{arm}/is_cityscapes"
        recipe = settings.segmenters[name]
        with progress_bar(f"training {name} on {arm}", recipe.steps) as progress:
            result = get_segmenter(recipe.kind).fit(
                ArmDataset(samples, dataset.root, store, windows),
                recipe,
                classes=settings.classes,
                seed=seed,
                out=out.folder("checkpoint"),
                scratch=out.scratch(),
                device=device.name,
                progress=progress,
            )
        out.add_table(result.curve)
        out.device_seconds = result.seconds
        out.summary.update(steps=recipe.steps, samples=len(samples), final_loss=float(result.curve["loss"].iloc[-1]))
        return Made({"loss_curve": curve_picture(result.curve), "peak_memory_mb": round(result.peak_memory / 2**20)})

    return [trained_segmenters]
