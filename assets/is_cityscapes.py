"""Phase 3: composites and their focused windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any

import numpy as np
import pandas as pd

from assets.shared import repainted
from assets.shared.declaration import artifact
from assets.shared.made import Check, Made
from assets.shared.pictures import PREVIEWED_WINDOWS, gates_preview, windows_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import COPY_PASTE, instances_asset, window_arms
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.settings import INSERT, Settings
from instsynth_dagster.synthesis.copy_paste import copy_paste, first_with_room
from instsynth_dagster.synthesis.gates import rejection
from instsynth_dagster.synthesis.insertion import with_inserted
from instsynth_dagster.synthesis.synthetic_windows import masks_conserved, repainted_instances, synthetic_window
from resources.dataset import Dataset

CHECKS = {
    "outside_mask_identity": "Outside the exported mask every pixel of a window equals the window of the source frame.",
    "masks_conserved": "Windows hold only ids of their source frame, and the target mask is in its place.",
}
HALF_ACCEPTED = "half_accepted"
ACCEPTED = "At least half of the crops pass the gates."
MIN_ACCEPTED = 0.5


@artifact(
    "{member}/is_cityscapes",
    code_version="3",
    members=window_arms,
    dimensions=city_class_dimensions,
    settings=repainted.read_settings,
    values={"replicas": repainted.replicas},
    reads=lambda at: [("frames", at["city"]), *repainted.reads(at, at.partition)],
    group="phase_3",
    kinds={"opencv"},
    checks=CHECKS,
    warnings=lambda at: {HALF_ACCEPTED: ACCEPTED} if repainted.is_judged(at.settings, at.member) else {},
)
def is_cityscapes(
    out: PartitionWriter,
    partition: str,
    member: str,
    settings: Settings,
    replicas: int,
    store: DeclaredStore,
    dataset: Dataset,
) -> Made:
    """Synthetic training frames: the repainted instance pasted back inside its mask with a feathered alpha, then a
    focused window around it (InstSynth phase 3, Eq. 2-3). For `zoom_crop` the same windows of untouched frames; for
    `copy_paste` windows around real instances pasted into other frames of the city; `color_jitter` and `oracle` paste
    other pixels into the masks, shifted colours and a rendering of the demo city in other colours. Arms with the suffix
    `_insert` show instances at new places (`insertions`).
    """
    city, _ = partition.split("|")
    frames = store.read("frames", city).set_index("frame_id", drop=False)
    selected = store.read_lazily(instances_asset(member), partition)
    crops, quality, chosen = repainted.chosen_crops(store, member, partition, settings, replicas)
    paint = repainted.control_paint(member, settings)
    rows = [row for row in repainted_instances(selected, chosen, replicas, paint) if not _vanished(row)]
    place = _inserted if member.endswith(INSERT) else _copy_pasted if member == COPY_PASTE else _in_place
    left = enumerate(rows[out.resumed_rows :], out.resumed_rows)
    for index, untouched, image, ids, row in place(left, frames, dataset, settings):
        window = synthetic_window(
            image, ids, city, index, row, settings.integration, settings.seed, dataset.labels, untouched
        )
        failed = [check for check in _checks(window) if not check.passed]
        if failed:
            return Made(checks=tuple(failed))
        out.add(window)
    out.summary["windows"] = out.rows
    shown = list(
        islice(out.stored_rows(["instance_id", "frame_id", "prompt", "image_png", "ids_png"]), PREVIEWED_WINDOWS)
    )
    metadata: dict[str, Any] = {"preview": windows_preview(shown, dataset.labels, out.rows)} if shown else {}
    checks = [Check(name, True, text) for name, text in CHECKS.items()]
    if chosen is not None:
        out.summary["accepted"] = sum(crop["image_png"] is not None for crop in chosen)  # spares included
        out.summary["rejected"] = sum(bool(crop["rejection"]) for crop in chosen)
    if crops is not None and quality is not None and len(quality):
        share = float(np.mean([not rejection(row, settings.gates) for row in quality.to_dict("records")]))
        metadata |= {"accepted": share, "gates": gates_preview(selected, crops, quality, settings.gates)}
        text = f"{partition}: {share:.0%} of {len(quality)} crops pass the gates"
        checks.append(Check(HALF_ACCEPTED, share >= MIN_ACCEPTED, text, blocking=False))
    return Made(metadata, tuple(checks))


Placed = Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]]
"""Number of a row, the original frame, the frame from which its window is cut, its id map, and the row."""


def _in_place(
    rows: Iterable[tuple[int, dict[str, Any]]], frames: pd.DataFrame, dataset: Dataset, settings: Settings
) -> Placed:
    """Every instance in its own frame, each frame read once."""
    for frame_id, group in groupby(rows, lambda numbered: numbered[1]["frame_id"]):
        image, ids = dataset.image(frames.loc[frame_id]), dataset.ids(frames.loc[frame_id])
        for index, row in group:
            yield index, image, image, ids, row


def _vanished(row: Mapping[str, Any]) -> bool:
    """Whether a row is an inserted instance without an accepted repainting: neither it nor its mask is in the frame."""
    return row.get("reason") == "" and row["repainted_png"] is None


def _inserted(
    rows: Iterable[tuple[int, dict[str, Any]]], frames: pd.DataFrame, dataset: Dataset, settings: Settings
) -> Placed:
    """Every inserted instance in its new frame, the others in their own."""
    for index, row in rows:
        frame = frames.loc[row["frame_id"]]
        image, ids = dataset.image(frame), dataset.ids(frame)
        yield index, image, image, with_inserted(ids, row) if row["reason"] == "" else ids, row


def _copy_pasted(
    rows: Iterable[tuple[int, dict[str, Any]]], frames: pd.DataFrame, dataset: Dataset, settings: Settings
) -> Placed:
    """Every instance in another frame of its city."""
    for index, row in rows:
        frame_id, before = first_with_room(
            row, frames.index.tolist(), settings.seed, lambda name: dataset.ids(frames.loc[name]), dataset.labels
        )
        frame = frames.loc[frame_id]
        image = dataset.image(frame)
        composite, ids, pasted = copy_paste(
            row, frame_id, image, before, settings.integration, settings.seed, dataset.labels
        )
        yield index, image, composite, ids, pasted | {"source_sha256": frame.image_sha256}


def _checks(window: Mapping[str, Any]) -> list[Check]:
    difference = window["outside_difference"]
    return [
        Check(
            "outside_mask_identity",
            difference == 0,
            f"{window['instance_id']}: pixels outside the mask differ from the source by up to {difference}",
        ),
        Check(
            "masks_conserved",
            masks_conserved(window),
            f"{window['instance_id']}: the window's id map is not its source's",
        ),
    ]
