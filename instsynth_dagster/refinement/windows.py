"""Synthetic windows with refined labels: only the repainted instance is refined."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from instsynth_dagster.data.images import decode_ids, decode_png, encode_ids, resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.refinement.boundary import Refiner
from instsynth_dagster.refinement.prototypes import Prototypes
from instsynth_dagster.refinement.refine import refine_instances
from instsynth_dagster.settings import RefinementSettings

if TYPE_CHECKING:
    from instsynth_dagster.refinement.features import Extractor


def refine_window(
    window: Mapping[str, Any],
    extract: Extractor,
    prototypes: Prototypes,
    refiner: Refiner | None,
    settings: RefinementSettings,
    labels: LabelTable,
) -> dict[str, Any]:
    """A row of `refined_pseudo_labels` for a row of `is_cityscapes` (frame_id, instance_id, window box, image, ids).

    Features are computed at the size that the window has in its frame, at which the prototypes were made, because a
    network's features depend on scale.

    The repainted instance may lose pixels and gains none: outside its mask the window shows the source. All other
    labels are real and stay unchanged, as does a window whose instance was not repainted or is not visible in it.
    """
    ids = decode_ids(window["ids_png"])
    value = int(window["instance_id"].rpartition(":")[2])
    record: dict[str, Any] = {}
    if window["repainted"] and (ids == value).any():
        image = decode_png(window["image_png"])
        native = (window["window_x2"] - window["window_x1"], window["window_y2"] - window["window_y1"])
        features = extract(resize_image(image, native))
        done = refine_instances(image, ids, [value], features, prototypes, refiner, settings, labels, grow=False)
        ids, record = done.ids, done.records[0]
    ids_png = encode_ids(ids)
    shown = [number for number in np.unique(ids).tolist() if number >= labels.factor]
    return {
        "frame_id": window["frame_id"],
        "instance_id": window["instance_id"],
        **{name: record.get(name, default) for name, default in _UNTOUCHED.items()},
        "instance_classes": [labels.label_of(number).name for number in shown],
        "ids_sha256": hashlib.sha256(ids_png).hexdigest(),
        "ids_png": ids_png,
    }


_UNTOUCHED: dict[str, Any] = {
    **dict.fromkeys(("pixels_before", "pixels_after", "freed", "returned", "given_away", "unclear"), 0),
    **dict.fromkeys(("border_added", "border_removed"), 0),
    "refiner": "off",
    "verdict": "untouched",
}
"""Values of a row for a window that was not refined."""
