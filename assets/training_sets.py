"""What each arm trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.stored import Check, Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.graph import FROM_SEMANTICS, TrainingSet, labels_asset, windows_asset
from instsynth_dagster.segmenters.training.samples import (
    GROUPED_COLUMNS,
    WINDOW_COLUMNS,
    frame_samples,
    from_labelled,
    grouped_samples,
    labelled_frames,
    window_samples,
)
from instsynth_dagster.settings import Settings

WARNINGS = {"class_balance": "Synthesis gives every class of the real frames more instances, rare ones most of all."}

Tables = Iterator[pd.DataFrame]


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
        if data.arm == FROM_SEMANTICS:
            tables = _grouped(settings, store, labelled)
        else:
            tables = _with_windows(settings, graph, store, data.arm, labelled)
        counted = []
        for table in tables:  # one at a time: of a hundred thousand windows even the table is large
            out.add_table(table)
            counted.append(table.assign(samples=1).groupby("source")[["samples", *_instances(table)]].sum())
        counts = pd.concat(counted).groupby(level=0).sum()
        samples, instances = counts["samples"], counts[_instances(counts)]
        out.summary.update(frames=int(samples.get("frame", 0)), windows=int(samples.get("window", 0)))
        out.summary["instances"] = {
            name.removeprefix("instances_"): int(number) for name, number in instances.sum().items()
        }
        splits = store.read("splits").set_index("city")["split"]
        foreign = [city for city in settings.dataset.train_cities if splits[city] != "train"]
        described = f"{foreign[0]} is not a train city" if foreign else "all samples come from train cities"
        return Made({}, (Check("no_val_sample", not foreign, described), class_balance(instances)))

    return [training_sets]


def _real(settings: Settings, store: Store, cities: Sequence[str], labelled: set[str]) -> pd.DataFrame:
    frames = store.read_many("frames", cities)
    return frame_samples(
        frames[frames["frame_id"].isin(labelled)], store.read_many("instances", cities), settings.classes
    )


def _with_windows(settings: Settings, graph: Graph, store: Store, arm: str, labelled: set[str]) -> Tables:
    """Real frames, and the arm's windows of them."""
    yield _real(settings, store, settings.dataset.train_cities, labelled)
    asset, labels = windows_asset(arm), labels_asset(arm)
    for partition in graph[asset].partitions if asset else []:
        windows = store.read(str(asset), partition, WINDOW_COLUMNS)
        if labels and len(windows):
            windows = windows.assign(**store.read(labels, partition, ["ids_sha256", "instance_classes"]))
        windows = windows[from_labelled(windows, labelled)]
        if len(windows):
            yield window_samples(windows, partition, settings.classes)


def _grouped(settings: Settings, store: Store, labelled: set[str]) -> Tables:
    """Frames whose instances SISeg told apart, and the real frames of the other train cities."""
    assert settings.semantics is not None
    grouped = settings.semantics.cities
    rest = [city for city in settings.dataset.train_cities if city not in grouped]
    if rest:
        yield _real(settings, store, rest, labelled)
    for city in grouped:
        rows = store.read("instances_from_semantics", city, GROUPED_COLUMNS)
        if city in settings.dataset.train_cities:
            rows = rows[rows["frame_id"].isin(labelled)]
        if len(rows):
            yield grouped_samples(rows, city, settings.classes)


def _instances(table: pd.DataFrame) -> list[str]:
    return [column for column in table if column.startswith("instances_")]


def class_balance(counts: pd.DataFrame) -> Check:
    """Whether the arm's windows add to every class, and whether the rarest class grows at least as much as the most
    common one.

    Args:
        counts: instances_<class> by source, frame and window.
    """
    if "frame" not in counts.index:
        return Check("class_balance", True, "no annotated frames to compare with", blocking=False)
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
