"""Phase 1: which instances are repainted, and their crops."""

from __future__ import annotations

from itertools import islice
from typing import Any

from assets.shared.checks import known_frames, train_frames
from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import PREVIEWED_CROPS, crops_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.crops import cut_selected
from instsynth_dagster.synthesis.selection import select_instances
from resources.dataset import Dataset


@artifact(
    "selected_instances",
    code_version="1",
    dimensions=city_class_dimensions,
    settings=["selection", "classes", "dataset.root"],
    reads=lambda at: [("splits", UNPARTITIONED), ("frames", at["city"]), ("instances", at["city"])],
    group="phase_1",
    kinds={"opencv"},
    checks={"only_train_frames": "No frame of a val city enters synthesis."},
)
def selected_instances(
    out: PartitionWriter, partition: str, settings: Settings, store: DeclaredStore, dataset: Dataset
) -> Made:
    """Instances chosen for repainting (InstSynth phase 1, Eq. 1), with their square crops and masks.

    Crops keep a margin of context and are shifted inside the frame, never padded with black.
    """
    city, class_name = partition.split("|")
    frames = store.read("frames", city)
    instances = store.read("instances", city)
    chosen = select_instances(instances, settings.selection, settings.classes)
    chosen = chosen[chosen["class_name"] == class_name]
    known = train_frames(store.read("splits"), frames, dataset.city_of)
    check = known_frames("only_train_frames", chosen["frame_id"], known)
    if not check.passed:
        return Made(checks=(check,))
    sources = frames.set_index("frame_id", drop=False)
    for frame_id, rows in chosen.iloc[out.resumed_rows :].groupby("frame_id", sort=True):
        frame = sources.loc[frame_id]
        for row in cut_selected(dataset.image(frame), dataset.ids(frame), rows, settings.selection):
            row["source_sha256"] = frame.image_sha256
            out.add(row)
    out.summary["instances"] = len(chosen)
    metadata: dict[str, Any] = {"available": int((instances["class_name"] == class_name).sum())}
    if shown := list(islice(out.stored_rows(["instance_id", "crop_png"]), PREVIEWED_CROPS)):
        metadata["preview"] = crops_preview(shown, "crop_png", out.rows)
    return Made(metadata, (check,))
