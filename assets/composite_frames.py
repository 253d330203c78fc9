"""Phase 3 by whole frames: all accepted repaintings of a frame at once, at their own scale."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pandas as pd

from assets.shared import repainted
from assets.shared.declaration import artifact
from assets.shared.made import Check, Made
from assets.shared.pictures import PREVIEWED_WINDOWS, windows_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import composite_sources
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.composite_frames import composite_frame, composite_frame_id
from instsynth_dagster.synthesis.synthetic_windows import repainted_instances
from resources.dataset import Dataset

CHECKS = {
    "outside_masks_identity": "Outside the repainted masks every pixel equals the source frame.",
    "ids_kept": "The id map is the source's.",
}


@artifact(
    "{member}/composite_frames",
    code_version="1",
    members=composite_sources,
    dimensions=lambda settings: {"city": settings.dataset.train_cities},
    settings=lambda at: ["classes", *repainted.read_settings(at)],
    values={"replicas": repainted.replicas},
    reads=lambda at: [
        ("frames", at["city"]),
        ("instances", at["city"]),
        *(ref for name in at.settings.classes for ref in repainted.reads(at, f"{at['city']}|{name}")),
    ],
    group="phase_3",
    kinds={"opencv"},
    checks=CHECKS,
)
def composite_frames(
    out: PartitionWriter,
    city: str,
    member: str,
    settings: Settings,
    replicas: int,
    store: DeclaredStore,
    dataset: Dataset,
) -> Made:
    """Whole train frames with every accepted repainting pasted into its mask, labels unchanged; each replica of the
    instances gives another version of a frame. The arm `<name>_frame` trains on them instead of focused windows.
    """
    frames = store.read("frames", city).set_index("frame_id", drop=False)
    instances = store.read("instances", city)
    by_frame = _accepted(city, member, settings, replicas, store)
    jobs = sorted((frame_id, slot) for frame_id, rows in by_frame.items() for slot in {row["slot"] for row in rows})
    for index, (frame_id, slot) in list(enumerate(jobs))[out.resumed_rows :]:
        frame = frames.loc[frame_id]
        name = composite_frame_id(city, frames.index.get_loc(frame_id), slot)
        made = composite_frame(
            dataset.image(frame), dataset.ids(frame), name, slot, by_frame[frame_id], settings.integration
        )
        assert made is not None, f"frame {index} has no accepted repainting"
        made["instance_classes"] = _classes(instances, frame_id)
        failed = [check for check in _checks(made) if not check.passed]
        if failed:
            return Made(checks=tuple(failed))
        out.add(made)
    shown = list(islice(out.stored_rows(["instance_id", "frame_id", "image_png", "ids_png"]), PREVIEWED_WINDOWS))
    out.summary.update(frames=len(jobs), repaintings=sum(len(rows) for rows in by_frame.values()))
    checks = tuple(Check(name, True, text) for name, text in CHECKS.items())
    return Made({"preview": windows_preview(shown, dataset.labels, out.rows)} if shown else {}, checks)


def _accepted(
    city: str, member: str, settings: Settings, replicas: int, store: DeclaredStore
) -> dict[str, list[dict[str, Any]]]:
    """Accepted repaintings of all classes by frame."""
    by_frame: dict[str, list[dict[str, Any]]] = {}
    paint = repainted.control_paint(member, settings)
    for name in settings.classes:
        key = f"{city}|{name}"
        _, _, chosen = repainted.chosen_crops(store, member, key, settings, replicas)
        selected = store.read_lazily("selected_instances", key)
        for row in repainted_instances(selected, chosen, replicas, paint):
            if row["repainted_png"] is not None:
                by_frame.setdefault(row["frame_id"], []).append(row)
    return by_frame


def _classes(instances: pd.DataFrame, frame_id: str) -> list[str]:
    """Class of every single instance of a frame."""
    of_frame = instances[(instances["frame_id"] == frame_id) & ~instances["is_group"].astype(bool)]
    return of_frame["class_name"].tolist()


def _checks(made: dict[str, Any]) -> list[Check]:
    name, difference, changed = made["frame_id"], made["outside_difference"], made["changed_ids"]
    return [
        Check(
            "outside_masks_identity",
            difference == 0,
            f"{name}: pixels outside the masks differ from the source by up to {difference}",
        ),
        Check("ids_kept", changed == 0, f"{name}: {changed} ids are not the source's"),
    ]
