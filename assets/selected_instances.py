"""Phase 1: which instances are repainted, and their crops."""

from __future__ import annotations

from typing import Any

import dagster as dg

from assets.shared.partitions import Graph
from assets.shared.pictures import PREVIEWED_CROPS, crops_preview
from assets.shared.stored import Check, Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.crops import cut_selected
from instsynth_dagster.synthesis.selection import select_instances
from resources.dataset import Dataset


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    checks = {"only_train_frames": "No frame of a val city enters synthesis."}

    @stored_asset(graph["selected_instances"], graph, group="phase_1", kinds={"opencv"}, checks=checks)
    def selected_instances(out: PartitionWriter, partition: str, store: Store, dataset: Dataset) -> Made:
        """Instances chosen for repainting (InstSynth phase 1, Eq. 1), with their square crops and masks.

        Crops keep a margin of context and are shifted inside the frame, never padded with black.
        """
        city, class_name = partition.split("|")
        frames = store.read("frames", city)
        instances = store.read("instances", city)
        chosen = select_instances(instances, settings.selection, settings.classes)
        chosen = chosen[chosen["class_name"] == class_name]
        sources = frames.set_index("frame_id", drop=False)
        shown: list[dict[str, Any]] = []
        for frame_id, rows in chosen.iloc[out.resumed_rows :].groupby("frame_id", sort=True):
            frame = sources.loc[frame_id]
            for row in cut_selected(dataset.image(frame), dataset.ids(frame), rows, settings.selection):
                row["source_sha256"] = frame.image_sha256
                out.add(row)
                if len(shown) < PREVIEWED_CROPS:
                    shown.append(row)
        out.summary["instances"] = len(chosen)
        splits = store.read("splits").set_index("city")["split"]
        check = Check("only_train_frames", splits[city] == "train", f"{city} is a {splits[city]} city")
        metadata: dict[str, Any] = {"available": int((instances["class_name"] == class_name).sum())}
        if shown:
            metadata["preview"] = crops_preview(shown, "crop_png")
        return Made(metadata, (check,))

    return [selected_instances]
