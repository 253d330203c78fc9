"""What each arm trains on."""

from __future__ import annotations

import dagster as dg
import pandas as pd

from assets.partitions import Graph
from assets.stored import Check, Made, stored_asset
from instsynth_dagster.graph import REAL
from instsynth_dagster.segmenters.samples import WINDOW_COLUMNS, frame_samples, window_samples
from instsynth_dagster.settings import Settings
from instsynth_dagster.store import PartitionWriter, Store


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    checks = {"no_val_sample": "Every sample of a training set comes from a train city."}

    @stored_asset(graph["training_sets"], graph, group="segmentation", kinds={"pandas"}, checks=checks)
    def training_sets(out: PartitionWriter, arm: str, store: Store) -> Made:
        """Samples of one arm: all real train frames, and the arm's synthetic windows beside them."""
        tables = [
            frame_samples(store.read("frames", city), store.read("instances", city), settings.classes)
            for city in settings.dataset.train_cities
        ]
        asset = f"{arm}/is_cityscapes"
        for partition in graph[asset].partitions if arm != REAL else []:
            windows = store.read(asset, partition, WINDOW_COLUMNS)
            if len(windows):
                tables.append(window_samples(windows, partition, settings.classes))
        samples = pd.concat(tables, ignore_index=True)
        out.add_table(samples)
        counts = samples["source"].value_counts()
        instances = samples.filter(like="instances_").sum()
        out.summary.update(frames=int(counts.get("frame", 0)), windows=int(counts.get("window", 0)))
        out.summary["instances"] = {name.removeprefix("instances_"): int(n) for name, n in instances.items()}
        splits = store.read("splits").set_index("city")["split"]
        foreign = [city for city in settings.dataset.train_cities if splits[city] != "train"]
        described = f"{foreign[0]} is not a train city" if foreign else "all samples come from train cities"
        return Made({}, (Check("no_val_sample", not foreign, described),))

    return [training_sets]
