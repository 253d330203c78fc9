"""Instances from semantic maps (SISeg)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Check, Made
from assets.shared.pictures import ids_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.data.formats.cityscapes import Frame, read_image, read_label_ids
from instsynth_dagster.data.images import decode_ids, encode_ids
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.near_duplicates import leak_message, leaked_frames, perceptual_hash
from instsynth_dagster.data.versions import SEMANTIC_SUFFIXES
from instsynth_dagster.graph.data import tree_files
from instsynth_dagster.graph.refs import each, scored_cities
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.settings import SemanticsSettings, Settings
from resources.dataset import Dataset
from resources.device import Device
from resources.progress import progress_bar

CHECKS = {"no_val_frame": "No frame that becomes training data is also a val frame, or nearly so."}
SHOWN = 4


def _cities(settings: Settings) -> dict[str, tuple[str, ...]]:
    assert settings.semantics is not None
    return {"city": settings.semantics.cities}


@artifact(
    "instances_from_semantics",
    code_version="1",
    when=lambda settings: settings.semantics,
    dimensions=_cities,
    settings=["semantics.segmenter:inference", "semantics.source", "dataset.root"],
    reads=lambda at: [("siseg", UNPARTITIONED), *each("frames", scored_cities(at.settings))],
    files=lambda at: tree_files(at.settings.dataset, at["city"], SEMANTIC_SUFFIXES),
    cities=lambda at: [at["city"]],
    group="semantics",
    kinds={"pytorch"},
    checks=CHECKS,
)
def instances_from_semantics(
    out: PartitionWriter, city: str, settings: Settings, store: DeclaredStore, dataset: Dataset, device: Device
) -> Made:
    """Instance id maps of a city that has semantic maps only (labelIds, or what a segmenter predicts)."""
    chosen = settings.semantics
    assert chosen is not None
    frames = dataset.semantic_frames(city)
    leaked = _no_val_frame(frames, store)
    if not leaked.passed:
        return Made(checks=(leaked,))
    predictor = load_siseg(chosen, store, dataset.labels, device)
    with progress_bar(f"separating the instances of {city}", len(frames)) as progress:
        for number, frame in enumerate(frames):
            if number < out.resumed_rows:
                continue
            image = read_image(frame.image)
            known = chosen.source == "labels"
            semantic = read_label_ids(frame.ids, dataset.labels) if known else predictor.semantic_map(image)
            ids = predictor.instances(image, semantic)
            out.add(_row(frame, dataset, ids))
            progress(number + 1, len(frames))
    out.summary["frames"] = out.rows
    first = zip(frames[:SHOWN], out.stored_rows(["ids_png"]), strict=False)
    shown = [(read_image(frame.image), decode_ids(row["ids_png"])) for frame, row in first]
    return Made({"preview": ids_preview(shown, dataset.labels, out.rows)} if shown else {}, (leaked,))


def load_siseg(chosen: SemanticsSettings, store: DeclaredStore, labels: LabelTable, device: Device) -> Any:
    """The trained SISeg, ready to separate instances."""
    recipe = chosen.segmenter
    folder = store.folder("siseg", UNPARTITIONED, "checkpoint")
    return get_segmenter(recipe.kind).load(folder, recipe, labels=labels, device=device.name)


def _no_val_frame(frames: Sequence[Frame], store: DeclaredStore) -> Check:
    """The check that no frame is a val frame; cities outside `splits` pass no other check."""
    hashes = [perceptual_hash(read_image(frame.image)) for frame in frames]
    known = pd.DataFrame(
        {
            "frame_id": [frame.frame_id for frame in frames],
            "image_sha256": [file_sha256(frame.image) for frame in frames],
            "perceptual_hash": hashes,
            "mirrored_hash": hashes,
            "split": "train",
        }
    )
    val = [store.read("frames", city, list(known)[:-1]).assign(split="val") for city in store.declared("frames")]
    leaks = leaked_frames(pd.concat([known, *val]))
    told = leak_message(leaks, may_allow=False) if leaks else "no val frame among them"
    return Check("no_val_frame", not leaks, told)


def _row(frame: Any, dataset: Dataset, ids: np.ndarray) -> dict[str, Any]:
    encoded, labels = encode_ids(ids), dataset.labels
    values = np.unique(ids[labels.is_instance(ids)]).tolist()
    return {
        "frame_id": frame.frame_id,
        "image": frame.image.relative_to(dataset.root).as_posix(),
        "image_sha256": file_sha256(frame.image),
        "ids_png": encoded,
        "ids_sha256": hashlib.sha256(encoded).hexdigest(),
        "instance_classes": [labels.label_of(value).name for value in values],
    }
