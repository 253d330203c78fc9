"""New places for the selected instances, in other frames."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import PREVIEWED_CROPS, crops_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.data.masks import decode_rle, mask_box
from instsynth_dagster.graph import inserting_arms
from instsynth_dagster.graph.refs import city_class_dimensions, each
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.copy_paste import free_id, target_frames
from instsynth_dagster.synthesis.insertion import Donor, find_place, inserted_row, pasted_donor
from instsynth_dagster.synthesis.places import StandingPlaces, learn_places
from resources.dataset import Dataset


@artifact(
    "insertions",
    code_version="1",
    when=inserting_arms,
    dimensions=city_class_dimensions,
    settings=["selection.margin", "selection.min_area", "classes", "seed", "dataset.root"],
    reads=lambda at: [
        ("splits", UNPARTITIONED),
        ("frames", at["city"]),
        ("selected_instances", at.partition),
        *each("instances", at.settings.dataset.train_cities),
    ],
    group="phase_1",
    kinds={"opencv"},
)
def insertions(
    out: PartitionWriter, partition: str, settings: Settings, store: DeclaredStore, dataset: Dataset
) -> Made:
    """For every selected instance a plausible new place in another frame of its city: its shape, scaled to the place,
    on ground on which its class stands, behind nearer objects. Without such a place the row is the selected instance
    itself, in its own frame, and `reason` says why.
    """
    city, class_name = partition.split("|")
    frames = store.read("frames", city).set_index("frame_id", drop=False)
    selected = store.read_lazily("selected_instances", partition)
    instances = store.read_many("instances", store.declared("instances"))
    learned = {name: learn_places(rows) for name, rows in instances.groupby("class_name") if name in settings.classes}
    cut = set(instances.loc[instances["touches_border"].astype(bool), "instance_id"])
    grounds = {ground for places in learned.values() if isinstance(places, StandingPlaces) for ground in places.grounds}
    for row in selected.to_dict("records")[out.resumed_rows :]:
        places = learned[class_name]
        if row["instance_id"] in cut:
            places = "its shape is cut by the border of its frame"
        out.add(_inserted(row, places, grounds, frames, settings, dataset))
    out.summary["instances"] = len(selected)
    reasons = Counter(row["reason"] or "placed" for row in out.stored_rows(["reason"]))
    metadata: dict[str, Any] = dict(reasons)
    made = (row for row in out.stored_rows(["instance_id", "reason", "pasted_png"]) if row["reason"] == "")
    shown = list(islice(made, PREVIEWED_CROPS))
    if shown:
        metadata["preview"] = crops_preview(shown, "pasted_png", reasons["placed"])
    return Made(metadata)


def _inserted(
    row: dict[str, Any],
    places: StandingPlaces | str,
    grounds: set[int],
    frames: pd.DataFrame,
    settings: Settings,
    dataset: Dataset,
) -> dict[str, Any]:
    """A selected row at its new place, or unchanged with the reason."""
    if isinstance(places, str):
        return _unplaced(row, places)
    frame = frames.loc[target_frames(row | {"slot": 0}, frames.index.tolist(), settings.seed)[0]]
    image, ids = dataset.image(frame), dataset.ids(frame)
    crop = decode_png(row["crop_png"])
    mask = decode_rle({"size": list(crop.shape[:2]), "counts": row["mask_counts"]})
    x1, y1, x2, y2 = mask_box(mask)
    seed = content_seed("place", row["instance_id"], settings.seed)
    donor = Donor(row["instance_id"], np.ascontiguousarray(mask[y1:y2, x1:x2]))
    labels = dataset.labels
    least = settings.selection.min_area
    found = find_place(ids, labels.label_ids(ids), donor, places, grounds, least, seed, labels)
    if isinstance(found, str):
        return _unplaced(row, found)
    value = free_id(ids, row["class_name"], labels)
    if value is None:
        return _unplaced(
            row, f"the frame holds {labels.factor} instances of the class, and no number is left for another"
        )
    made = inserted_row(image, found, frame.frame_id, row["class_name"], value, settings.selection.margin)
    box = made["crop_x1"], made["crop_y1"], made["crop_x2"], made["crop_y2"]
    pasted = encode_png(pasted_donor(crop, mask, found, box))
    return row | made | {"source_sha256": frame.image_sha256, "reason": "", "pasted_png": pasted}


def _unplaced(row: dict[str, Any], reason: str) -> dict[str, Any]:
    """The selected instance in its own place."""
    return row | {"crop_png": bytes(row["crop_png"]), "reason": reason, "pasted_png": None}
