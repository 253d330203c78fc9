"""Frames in which every object of chosen classes has lost its pixels."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import astuple
from itertools import islice
from typing import Any

from assets.shared.declaration import At, all_but, artifact
from assets.shared.made import Check, Made
from assets.shared.pictures import PREVIEWED_WINDOWS, windows_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.data.images import encoded_sample
from instsynth_dagster.graph.refs import all_cities, anonymised_dimensions
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.settings import AnonymiseSettings, GateSettings, Settings
from instsynth_dagster.synthesis.anonymise import anonymised_frame, changed_outside, hidden_parts, outcomes
from instsynth_dagster.synthesis.gates import choose_crops
from instsynth_dagster.synthesis.synthetic_windows import repainted_instances
from resources.dataset import Dataset

CHECKS = {"rest_untouched": "Beyond the dilation of hidden objects every pixel equals the source frame."}


def _settings(at: At) -> list[str]:
    gates = all_but({"spares"}, GateSettings, "gates") if at.settings.judge else []
    paths = all_but({"generator", "min_area"}, AnonymiseSettings, "anonymise")
    return [*paths, "integration.feather", "integration.color_match", "dataset.root", *gates]


def _reads(at: At) -> list[PartitionRef]:
    kinds = ("selected_instances", "inpainted_crops", *(("crop_quality",) if at.settings.judge else ()))
    classes = anonymised_dimensions(at.settings)["class"]
    painted = [(f"anonymised/{kind}", f"{at['city']}|{name}") for kind in kinds for name in classes]
    return [("frames", at["city"]), *painted]


@artifact(
    "anonymised/frames",
    code_version="1",
    when=lambda settings: settings.anonymise,
    dimensions=lambda settings: {"city": all_cities(settings)},
    settings=_settings,
    values={"classes": lambda at: anonymised_dimensions(at.settings)["class"]},
    reads=_reads,
    group="anonymisation",
    kinds={"opencv"},
    checks=CHECKS,
)
def anonymised_frames(
    out: PartitionWriter,
    city: str,
    settings: Settings,
    classes: tuple[str, ...],
    store: DeclaredStore,
    dataset: Dataset,
) -> Made:
    """Every frame of a city with all objects of the hidden classes repainted, or coarse where no repainting was
    accepted, and a rim around them filled from outside. The labels are those of the source. The arm `anonymised` trains
    on these frames, and `anonymised/export` writes them.
    """
    assert settings.anonymise is not None
    frames = store.read("frames", city)
    rows = _painted(city, classes, settings, store)
    counts = Counter[str]()
    for row in islice(frames.itertuples(), out.resumed_rows, None):
        image, ids = dataset.image(row), dataset.ids(row)
        own, parts = rows.get(row.frame_id, []), hidden_parts(ids, dataset.labels, settings.anonymise.classes)
        accepted = [instance for instance in own if instance["repainted_png"] is not None]
        made = anonymised_frame(image, parts, accepted, settings.anonymise, settings.integration)
        if changed := changed_outside(image, made, parts, settings.anonymise.dilation):
            text = f"{row.frame_id}: {changed} pixels differ from the source where nothing is hidden"
            return Made(checks=(Check("rest_untouched", False, text),))
        objects = outcomes(parts, own, dataset.labels, classes, settings.anonymise)
        told = json.dumps([astuple(one) for one in objects])
        names = {"frame_id": row.frame_id, "instance_id": row.frame_id}
        out.add({**names, **encoded_sample(made, ids), "told": told})
    for stored in out.stored_rows(["told"]):
        counts.update(how for _, _, how, _ in json.loads(stored["told"]))
    out.summary.update(frames=out.rows, **counts)
    shown = list(islice(out.stored_rows(["frame_id", "instance_id", "image_png", "ids_png"]), PREVIEWED_WINDOWS))
    metadata: dict[str, Any] = {"preview": windows_preview(shown, dataset.labels, out.rows)} if shown else {}
    return Made(metadata, tuple(Check(name, True, text) for name, text in CHECKS.items()))


def _painted(
    city: str, classes: tuple[str, ...], settings: Settings, store: DeclaredStore
) -> dict[str, list[dict[str, Any]]]:
    """For each frame the painted instances with the accepted repainting, or with the reason why there is none."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in classes:
        key = f"{city}|{name}"
        selected, crops = (
            store.read_lazily(f"anonymised/{kind}", key) for kind in ("selected_instances", "inpainted_crops")
        )
        quality = store.read("anonymised/crop_quality", key) if store.declared("anonymised/crop_quality") else None
        chosen = choose_crops(crops, quality, settings.gates if quality is not None else GateSettings(), replicas=1)
        for row in repainted_instances(selected, chosen, replicas=1):
            found.setdefault(row["frame_id"], []).append(row)
    return found
