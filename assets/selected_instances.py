"""Phase 1: the instances that are repainted, and their crops."""

from __future__ import annotations

from assets.shared.checks import known_frames, train_frames
from assets.shared.cutting import cut_into
from assets.shared.declaration import artifact
from assets.shared.made import Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.settings import Settings
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

    Crops have a margin of context and are shifted inside the frame, never padded with black.
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
    preview = cut_into(out, chosen, frames, dataset, settings.selection)
    return Made({"available": int((instances["class_name"] == class_name).sum()), **preview}, (check,))
