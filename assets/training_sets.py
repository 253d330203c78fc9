"""The training samples of each arm."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from assets.shared.checks import known_frames, train_frames
from assets.shared.declaration import At, artifact
from assets.shared.made import Check, Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.data.formats.cityscapes import city_of
from instsynth_dagster.graph import ANONYMISED, FROM_SEMANTICS, TrainingSet, labels_asset, windows_asset
from instsynth_dagster.graph import training_sets as names
from instsynth_dagster.graph.refs import city_classes, each
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.segmenters.training.samples import (
    GROUPED_COLUMNS,
    WINDOW_COLUMNS,
    anonymised_samples,
    frame_samples,
    from_labelled,
    grouped_samples,
    labelled_frames,
    window_samples,
)
from instsynth_dagster.settings import FRAME, Settings
from resources.dataset import Dataset

GROUPED = "instances_from_semantics"
CHECKS = {"no_val_sample": "Every sample of a training set comes from a train city."}
WARNINGS = {"class_balance": "Synthesis gives every class of the real frames more instances, rare ones most of all."}


def windows_and_labels(settings: Settings, arm: str) -> list[PartitionRef]:
    """Partitions with the pixels and id maps of an arm's samples, beside the data set itself."""
    if arm == FROM_SEMANTICS and settings.semantics:
        return each(GROUPED, settings.semantics.cities)
    sources = [asset for asset in (windows_asset(arm), labels_asset(arm)) if asset]
    whole = arm.endswith(FRAME) or arm == ANONYMISED
    partitions = settings.dataset.train_cities if whole else city_classes(settings)
    return [ref for asset in sources for ref in each(asset, partitions)]


def _reads(at: At) -> list[PartitionRef]:
    arm, cities = TrainingSet.parse(at["arm"]).arm, at.settings.dataset.train_cities
    grouped = at.settings.semantics.cities if arm == FROM_SEMANTICS and at.settings.semantics else ()
    return [
        ("splits", UNPARTITIONED),
        *each("frames", cities),
        *each("instances", [city for city in cities if city not in grouped]),
        *windows_and_labels(at.settings, arm),
    ]


@artifact(
    "training_sets",
    code_version="2",
    dimensions=lambda settings: {"arm": tuple(data.name for data in names(settings))},
    settings=["classes"],
    reads=_reads,
    group="segmentation",
    kinds={"pandas"},
    checks=CHECKS,
    warnings=WARNINGS,
)
def training_sets(out: PartitionWriter, name: str, settings: Settings, store: DeclaredStore, dataset: Dataset) -> Made:
    """Samples of one arm: the labelled train frames (all of them, or a share by a fixed list), and the arm's synthetic
    windows of these frames.
    """
    data = TrainingSet.parse(name)
    frames, splits = store.read_many("frames", store.declared("frames")), store.read("splits")
    labelled = labelled_frames(frames["frame_id"].tolist(), data.percent)
    make = {FROM_SEMANTICS: _grouped, ANONYMISED: _anonymised}.get(data.arm, _with_windows)
    counted, origins = [], set[str]()
    for table, shown in make(settings.classes, store, data.arm, frames, labelled):
        # one at a time, because even the table of a hundred thousand windows is large
        origins |= shown
        if len(table):
            out.add_table(table)
            counted.append(table.assign(samples=1).groupby("source")[["samples", *_instances(table)]].sum())
    counts = pd.concat(counted).groupby(level=0).sum()
    samples, instances = counts["samples"], counts[_instances(counts)]
    real = sum(int(samples.get(source, 0)) for source in ("frame", ANONYMISED))
    out.summary.update(frames=real, windows=int(samples.get("window", 0)))
    sums = instances.sum().items()
    out.summary["instances"] = {column.removeprefix("instances_"): int(number) for column, number in sums}
    known = train_frames(splits, frames, dataset.city_of) | _grouped_frames(store, splits)
    return Made({}, (known_frames("no_val_sample", origins, known), class_balance(instances)))


Tables = Iterator[tuple[pd.DataFrame, set[str]]]
"""Sample rows, and the frames of which they show pixels."""


def _real(classes: tuple[str, ...], store: DeclaredStore, frames: pd.DataFrame) -> tuple[pd.DataFrame, set[str]]:
    instances = store.read_many("instances", store.declared("instances"))
    samples = frame_samples(frames, instances, classes)
    return samples, set(samples["sample_id"])


def _with_windows(
    classes: tuple[str, ...], store: DeclaredStore, arm: str, frames: pd.DataFrame, labelled: set[str]
) -> Tables:
    """Real frames, and the arm's windows of them."""
    yield _real(classes, store, frames[frames["frame_id"].isin(labelled)])
    asset, labels = windows_asset(arm) or "", labels_asset(arm)
    for partition in store.declared(asset):
        windows = store.read(asset, partition, WINDOW_COLUMNS)
        if labels and len(windows):
            windows = windows.assign(**store.read(labels, partition, ["ids_sha256", "instance_classes"]))
        chosen = windows[from_labelled(windows, labelled)]
        if len(windows):
            origins = {*windows["source_frame"], *windows["instance_id"].str.partition(":")[0]}
            yield window_samples(chosen, partition, classes) if len(chosen) else chosen, origins


def _anonymised(
    classes: tuple[str, ...], store: DeclaredStore, arm: str, frames: pd.DataFrame, labelled: set[str]
) -> Tables:
    """The labelled frames in their anonymised version only."""
    samples, shown = _real(classes, store, frames[frames["frame_id"].isin(labelled)])
    asset = str(windows_asset(arm))
    for city in store.declared(asset):
        own = samples[samples["sample_id"].isin(frames.loc[frames["city"] == city, "frame_id"])]
        if len(own):
            stored = store.read(asset, city, ["frame_id", "image_sha256"])
            yield anonymised_samples(own, stored, city), shown


def _grouped(
    classes: tuple[str, ...], store: DeclaredStore, _: str, frames: pd.DataFrame, labelled: set[str]
) -> Tables:
    """Frames whose instances SISeg separated, and the real frames of the other train cities."""
    rest = store.declared("instances")
    if rest:
        yield _real(classes, store, frames[frames["city"].isin(rest)])
    for city in store.declared(GROUPED):
        rows = store.read(GROUPED, city, GROUPED_COLUMNS)
        if city in store.declared("frames"):
            rows = rows[rows["frame_id"].isin(labelled)]
        if len(rows):
            yield grouped_samples(rows, city, classes), set(rows["frame_id"])


def _grouped_frames(store: DeclaredStore, splits: pd.DataFrame) -> set[str]:
    """Frames of cities with semantic maps that are only used for training, which no other check has covered."""
    val = set(splits.loc[splits["split"] != "train", "city"])
    cities = [city for city in store.declared(GROUPED) if city not in val]
    rows = ((city, row) for city in cities for row in store.read(GROUPED, city, ["frame_id"])["frame_id"])
    return {frame_id for city, frame_id in rows if city_of(frame_id) == city}


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
