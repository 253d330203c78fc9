"""What is there before any synthesis: the (demo) data set, its frames, its splits, its instances."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.stored import Check, Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.data.near_duplicates import near_duplicates
from instsynth_dagster.data.versions import dvc_revision
from instsynth_dagster.graph import split_of
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    assets = [_frames(settings, graph), _splits(settings, graph), _instances(settings, graph)]
    return [_demo_city(settings, graph), *assets] if settings.dataset.demo_city else assets


def _demo_city(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["demo_city"], graph, group="data", kinds={"python", "opencv"})
    def demo_city(out: PartitionWriter, city: str, dataset: Dataset) -> Made:
        """Procedural street scenes of one city in exact Cityscapes layout, written below `dataset.root`.

        Deterministic: the same settings give the same bytes. Left out when `dataset.demo_city` is absent.
        """
        from instsynth_dagster.demo.city import write_demo_city

        assert settings.dataset.demo_city is not None
        out.summary["frames"] = write_demo_city(
            dataset.root, split_of(settings, city), city, settings.dataset.demo_city
        )
        rows = dataset.frame_table(city)
        out.add_table(rows)
        for directory in dataset.directories(city):
            out.promise(directory)
        return Made({"preview": dataset.preview(rows)})

    return demo_city


def _frames(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["frames"], graph, group="data", kinds={"python"})
    def frames(out: PartitionWriter, city: str, dataset: Dataset) -> Made:
        """Index of a city's frames: paths, sizes and sha256 of image and id map. Every file is decoded once, so a
        truncated PNG, an 8-bit id map or a size mismatch stops here, by name."""
        rows = dataset.frame_table(city)
        out.add_table(rows)
        out.summary["frames"] = len(rows)
        revision = dvc_revision(settings.dataset.root) or "not tracked"
        return Made({"preview": dataset.preview(rows), "dvc_revision": revision})

    return frames


def _splits(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    checks = {
        "no_frame_in_two_splits": "No val image is also a train image: whatever it is called, re-encoded, resized, "
        "brightened or mirrored."
    }

    @stored_asset(graph["splits"], graph, group="data", kinds={"python"}, checks=checks)
    def splits(out: PartitionWriter, _: str, store: Store) -> Made:
        """Which city trains and which validates; the gate in front of all synthesis and training."""
        roles = dict.fromkeys(settings.dataset.train_cities, "train") | dict.fromkeys(
            settings.dataset.val_cities, "val"
        )
        out.add_table(pd.DataFrame({"city": list(roles), "split": list(roles.values())}))
        frames = pd.concat(
            [
                store.read("frames", city, ["frame_id", "image_sha256", *HASHES]).assign(split=split)
                for city, split in roles.items()
            ]
        )
        leaks = leaked_frames(frames)
        described = f"{leaks[0]}; remove one of the two" if leaks else "train and val share no image"
        counts = frames["split"].value_counts()
        out.summary.update(train_cities=len(settings.dataset.train_cities), val_cities=len(settings.dataset.val_cities))
        metadata: dict[str, Any] = {f"{split}_frames": int(count) for split, count in counts.items()}
        metadata["dvc_revision"] = dvc_revision(settings.dataset.root) or "not tracked"
        return Made(metadata, (Check("no_frame_in_two_splits", not leaks, described, {"leaks": len(leaks)}),))

    return splits


HASHES = ("perceptual_hash", "mirrored_hash")


def leaked_frames(frames: pd.DataFrame) -> list[str]:
    """Val frames that are also in train, byte for byte or as nearly the same picture.

    Args:
        frames: columns frame_id, image_sha256, split and HASHES.
    """
    train, val = (frames[frames["split"] == split].reset_index(drop=True) for split in ("train", "val"))
    copies = val.merge(train, on="image_sha256", suffixes=("", "_train"))
    found = dict.fromkeys(zip(copies["frame_id"], copies["frame_id_train"], strict=True), "is")
    for column, how in (("perceptual_hash", "is nearly"), ("mirrored_hash", "mirrored is nearly")):
        for row, other in near_duplicates(val[column].tolist(), train["perceptual_hash"].tolist()):
            found.setdefault((val["frame_id"][row], train["frame_id"][other]), how)
    return [f"{val_id} (val) {how} {train_id} (train)" for (val_id, train_id), how in found.items()]


def _instances(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["instances"], graph, group="data", kinds={"python", "opencv"})
    def instances(out: PartitionWriter, city: str, dataset: Dataset, store: Store) -> Made:
        """One row per annotated instance and group of a city: area (pixels), box (xyxy), border contact, components."""
        rows = dataset.instance_table(store.read("frames", city))
        out.add_table(rows)
        counts = _counts(rows)
        out.summary["instances"] = int((~rows["is_group"]).sum()) if len(rows) else 0
        return Made(counts)

    return instances


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    if rows.empty:
        return {}
    single = rows[~rows["is_group"]]
    return {f"instances/{name}": int(count) for name, count in single["class_name"].value_counts().items()}
