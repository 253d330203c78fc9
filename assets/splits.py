"""The check between train and val."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Check, Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.data.near_duplicates import HASHES, Leak, leak_message, leaked_frames
from instsynth_dagster.data.versions import dvc_revision
from instsynth_dagster.graph.refs import all_cities, each
from instsynth_dagster.settings import Settings

CHECKS = {
    "no_frame_in_two_splits": "No val or test image is also a train image: whatever it is called, re-encoded, resized, "
    "brightened or mirrored."
}
WARNINGS = {"near_duplicates_allowed": "No val or test image that is nearly a train image was let pass."}


@artifact(
    "splits",
    code_version="2",
    settings=[
        "dataset.train_cities",
        "dataset.val_cities",
        "dataset.test_cities",
        "dataset.root",
        "dataset.near_duplicates",
    ],
    reads=lambda at: each("frames", all_cities(at.settings)),
    group="data",
    kinds={"python"},
    checks=CHECKS,
    warnings=WARNINGS,
)
def splits(out: PartitionWriter, _: str, settings: Settings, store: DeclaredStore) -> Made:
    """The cities that train, validate and test; no synthesis or training starts before its check passes."""
    dataset = settings.dataset
    cities = {"train": dataset.train_cities, "val": dataset.val_cities, "test": dataset.test_cities}
    roles = {city: split for split, names in cities.items() for city in names}
    out.add_table(pd.DataFrame({"city": list(roles), "split": list(roles.values())}))
    frames = pd.concat(
        [
            store.read("frames", city, ["frame_id", "image_sha256", *HASHES]).assign(split=split)
            for city, split in roles.items()
        ]
    )
    checks = _checks(leaked_frames(frames), dataset.near_duplicates == "allow")
    counts = frames["split"].value_counts()
    out.summary.update({f"{split}_cities": len(names) for split, names in cities.items() if names or split != "test"})
    metadata: dict[str, Any] = {f"{split}_frames": int(count) for split, count in counts.items()}
    metadata["dvc_revision"] = dvc_revision(dataset.root) or "not tracked"
    return Made(metadata, checks)


def _checks(leaks: Sequence[Leak], allowed: bool) -> tuple[Check, ...]:
    """The blocking check, and a warning of near duplicates that the settings allow."""
    passed = [leak for leak in leaks if allowed and not leak.exact]
    stopped = [leak for leak in leaks if leak not in passed]
    described = (
        leak_message(stopped, may_allow=not allowed) if stopped else "train and the cities scored on share no image"
    )
    gate = Check("no_frame_in_two_splits", not stopped, described, {"leaks": len(stopped)})
    if not passed:
        return (gate,)
    images = len({leak.frame_id for leak in passed})
    text = f"images to score on that are nearly train images, and were allowed: {images}; scores on them may flatter"
    return gate, Check("near_duplicates_allowed", False, text, {"images": images}, blocking=False)
