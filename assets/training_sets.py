"""What each arm trains on."""

from __future__ import annotations

import dagster as dg
import pandas as pd

from assets.partitions import Graph
from assets.stored import Check, Made, stored_asset
from instsynth_dagster.graph import TrainingSet, labels_asset, windows_asset
from instsynth_dagster.segmenters.samples import (
    WINDOW_COLUMNS,
    frame_samples,
    from_labelled,
    labelled_frames,
    window_samples,
)
from instsynth_dagster.settings import Settings
from instsynth_dagster.store import PartitionWriter, Store

WARNINGS = {"class_balance": "Synthesis gives every class of the real frames more instances, rare ones most of all."}


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    checks = {"no_val_sample": "Every sample of a training set comes from a train city."}

    @stored_asset(
        graph["training_sets"], graph, group="segmentation", kinds={"pandas"}, checks=checks, warnings=WARNINGS
    )
    def training_sets(out: PartitionWriter, name: str, store: Store) -> Made:
        """Samples of one arm: the labelled train frames (all of them, or a share by a fixed list), and the arm's
        synthetic windows of these frames beside them."""
        data = TrainingSet.parse(name)
        frames = store.read_many("frames", settings.dataset.train_cities)
        labelled = labelled_frames(frames["frame_id"].tolist(), data.percent)
        frames = frames[frames["frame_id"].isin(labelled)]
        instances = store.read_many("instances", settings.dataset.train_cities)
        tables = [frame_samples(frames, instances, settings.classes)]
        asset, labels = windows_asset(data.arm), labels_asset(data.arm)
        for partition in graph[asset].partitions if asset else []:
            windows = store.read(str(asset), partition, WINDOW_COLUMNS)
            if labels and len(windows):
                windows = windows.assign(**store.read(labels, partition, ["ids_sha256", "instance_classes"]))
            windows = windows[from_labelled(windows, labelled)]
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
        return Made({}, (Check("no_val_sample", not foreign, described), class_balance(samples)))

    return [training_sets]


def class_balance(samples: pd.DataFrame) -> Check:
    """Whether the arm's windows add to every class, and whether the rarest class grows at least as much as the most
    common one."""
    counts = samples.groupby("source")[[c for c in samples if c.startswith("instances_")]].sum()
    real = counts.loc["frame"].rename(lambda name: name.removeprefix("instances_"))
    real = real[real > 0].sort_values()
    if "window" not in counts.index or real.empty:
        return Check("class_balance", True, "no synthetic windows to weigh", blocking=False)
    added = counts.loc["window"].rename(lambda name: name.removeprefix("instances_"))
    ratio = 1 + added[real.index] / real
    lost = ratio.index[ratio <= 1].tolist()
    passed = not lost and ratio.iloc[0] >= ratio.iloc[-1]
    text = ", ".join(f"{name} x{value:.2f}" for name, value in ratio.items())
    return Check("class_balance", passed, text, {name: float(value) for name, value in ratio.items()}, blocking=False)
