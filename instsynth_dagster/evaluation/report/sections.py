"""Pictures of the report, prepared for its template: crops with verdicts, stages of instances, val frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.report.crops import ACCEPTED, CropGallery
from instsynth_dagster.evaluation.report.gallery import data_uri, overlay_instances, overlay_predictions, shrink
from instsynth_dagster.evaluation.report.record import KeptCrop
from instsynth_dagster.evaluation.tables.views import readable

MIN_SCORE = 0.5
ACCENT = (255, 196, 0)
_LETTERS = 0.026
"""Size of letters on a val frame relative to its width: 13 px where it is displayed at 500."""
_TILE = 200


@dataclass(frozen=True)
class Example:
    """One repainted instance at every stage.

    `frame` uint8 (H, W, 3) source frame; `crop_box` xyxy in its pixels, x2/y2 exclusive; `crop` uint8 (S, S, 3), `mask`
    bool (s, s) and `repainted` uint8 (T, T, 3) show the same square, each at its own size; `window` uint8 (h, w, 3) and
    `window_ids` integer (h, w) are the row of `is_cityscapes`.
    """

    instance_id: str
    class_name: str
    generator: str
    prompt: str
    frame: np.ndarray
    crop_box: tuple[int, int, int, int]
    crop: np.ndarray
    mask: np.ndarray
    repainted: np.ndarray
    window: np.ndarray
    window_ids: np.ndarray


@dataclass(frozen=True)
class ValFrame:
    """A val frame, uint8 (H, W, 3), its id map (H, W), and the prediction table of each arm for it."""

    frame_id: str
    image: np.ndarray
    ids: np.ndarray
    predictions: Mapping[str, pd.DataFrame]


def crop_section(gallery: CropGallery, table: Callable[[pd.DataFrame], Any]) -> dict[str, Any]:
    """Crops of a generator, the filters for them, and the counts of each class and verdict."""
    gates = list(dict.fromkeys(crop.verdict for crop in gallery.crops if crop.reason))
    rejected = [("rejected", "rejected"), *map(_rejected_by, gates)] if gates else []
    return {
        "name": gallery.generator,
        "id": f"crops-{gallery.generator}",
        "counts": table(readable(gallery.counts.rename(columns=dict(map(_rejected_by, gates))))),
        "classes": list(dict.fromkeys(crop.class_name for crop in gallery.crops)),
        "verdicts": [(ACCEPTED, ACCEPTED), *rejected],
        "crops": [
            {
                "class_name": crop.class_name,
                "verdicts": f"rejected|{crop.verdict}" if crop.reason else ACCEPTED,
                "reason": crop.reason,
                "prompt": crop.prompt,
                "picture": kept.picture,
                "before": data_uri(shrink(crop.source, _TILE)),
                "after": data_uri(shrink(crop.painted, _TILE)),
            }
            for crop, kept in zip(gallery.crops, kept_crops([gallery]), strict=True)
        ],
    }


def _rejected_by(gate: str) -> tuple[str, str]:
    return gate, f"rejected: {gate}"


def kept_crops(galleries: Sequence[CropGallery]) -> list[KeptCrop]:
    """The entries for crops in a page's record."""
    return [
        KeptCrop(
            generator=gallery.generator,
            instance_id=crop.instance_id,
            replica=crop.replica,
            class_name=crop.class_name,
            prompt=crop.prompt,
            reason=crop.reason,
            picture=f"{gallery.generator}-{number}",
        )
        for gallery in galleries
        for number, crop in enumerate(gallery.crops)
    ]


def example_section(example: Example, labels: LabelTable) -> dict[str, Any]:
    """One instance, from its frame to the window used for training."""
    framed = shrink(example.frame, 560)
    scale = framed.shape[1] / example.frame.shape[1]
    x1, y1, x2, y2 = (round(side * scale) for side in example.crop_box)
    framed = cv2.rectangle(framed.copy(), (x1, y1), (x2 - 1, y2 - 1), ACCENT, 2, cv2.LINE_AA)
    return {
        "instance_id": example.instance_id,
        "class_name": example.class_name,
        "generator": example.generator,
        "prompt": example.prompt,
        "frame": data_uri(framed),
        "crop": data_uri(shrink(example.crop, 240)),
        "mask": data_uri(np.where(example.mask, 255, 44).astype(np.uint8)),
        "repainted": data_uri(shrink(example.repainted, 240), quality=92),
        "window": data_uri(shrink(overlay_instances(example.window, example.window_ids, labels, named=False), 560)),
        "window_plain": data_uri(shrink(example.window, 560)),
    }


def frame_section(frame: ValFrame, labels: LabelTable) -> dict[str, Any]:
    """A val frame, its ground truth, and the predictions of each arm."""
    letters = max(11, round(_LETTERS * frame.image.shape[1]))
    found = []
    for arm, predictions in frame.predictions.items():
        shown = int((predictions["score"] >= MIN_SCORE).sum()) if len(predictions) else 0
        drawn = overlay_predictions(frame.image, predictions, labels, MIN_SCORE, letters)
        found.append((f"{arm}, {shown} found", data_uri(shrink(drawn, 720))))
    truth = overlay_instances(frame.image, frame.ids, labels, letters=letters)
    return {
        "frame_id": frame.frame_id,
        "plain": data_uri(shrink(frame.image, 720)),
        "truth": data_uri(shrink(truth, 720)),
        "predictions": found,
    }
