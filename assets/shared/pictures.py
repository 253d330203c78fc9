"""Pictures for the UI."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from assets.shared.made import Markdown
from instsynth_dagster.data.dataset import PREVIEWED_FRAMES, DataSet
from instsynth_dagster.data.images import decode_ids, decode_png, resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.report.charts import curve_svg
from instsynth_dagster.evaluation.report.gallery import (
    contact_sheet,
    overlay_instances,
    overlay_numbers,
    overlay_predictions,
    thumbnail_markdown,
)
from instsynth_dagster.evaluation.report.gate_gallery import MOST, gate_sheet
from instsynth_dagster.settings import GateSettings
from instsynth_dagster.synthesis.gates import rejection

PREVIEWED_CROPS, PREVIEWED_WINDOWS = 12, 4
_TILE = 104
WIDTH = 700
"""Width of a picture in pixels that the UI shows without scrolling on a screen of usual size."""


def crops_preview(rows: Sequence[Mapping[str, Any]], key: str, total: int) -> Markdown:
    """The first of `total` crops of a partition side by side, with their prompts where they have one."""
    first = rows[:PREVIEWED_CROPS]
    tiles = [resize_image(decode_png(row[key]), (_TILE, _TILE)) for row in first]
    return _sheet(tiles, [row.get("prompt") or row["instance_id"] for row in first], 6, sample(len(first), total))


def sample(shown: int, total: int, what: str = "") -> str:
    """The numbers of displayed and of all items, as text; "" where all are displayed."""
    named = f" {what}" if what else ""
    return f"{shown} of {total}{named} shown" if shown < total else ""


def sheet_preview(sheet: np.ndarray, caption: str = "") -> Markdown:
    """A finished contact sheet with a caption."""
    picture = thumbnail_markdown(sheet, width=WIDTH)
    return Markdown(f"{caption}\n\n{picture}" if caption else picture)


def frames_preview(dataset: DataSet, rows: pd.DataFrame) -> Markdown:
    """The first frames of a city with their instances."""
    caption = sample(min(PREVIEWED_FRAMES, len(rows)), len(rows), "frames")
    return Markdown(f"{caption}\n\n{dataset.preview(rows)}".strip())


def gates_preview(selected: pd.DataFrame, crops: pd.DataFrame, scores: pd.DataFrame, gates: GateSettings) -> Markdown:
    """Crops that the gates reject beside some that pass."""
    rejected = sum(bool(rejection(row, gates)) for row in scores.to_dict("records"))
    shown = min(rejected, MOST) + min(len(scores) - rejected, MOST)
    notes = [sample(shown, len(scores), "crops"), f"{rejected} of {len(scores)} rejected" if rejected else ""]
    return sheet_preview(gate_sheet(selected, crops, scores, gates), "; ".join(filter(None, notes)))


def windows_preview(windows: Sequence[Mapping[str, Any]], labels: LabelTable, total: int) -> Markdown:
    """Windows, and the same windows with their labels drawn in, for the first of `total` rows."""
    tiles, captions = [], []
    for window in windows[:PREVIEWED_WINDOWS]:
        image, ids = decode_png(window["image_png"]), decode_ids(window["ids_png"])
        tiles += [image, overlay_instances(image, ids, labels)]
        captions += [window.get("prompt") or window["instance_id"], f"labels of {window['frame_id']}"]
    return _sheet(tiles, captions, 2, sample(len(tiles) // 2, total))


def predictions_preview(
    shown: Sequence[tuple[np.ndarray, np.ndarray, pd.DataFrame]], labels: LabelTable, total: int
) -> Markdown:
    """Ground truth beside confident predictions, for the first of `total` val frames."""
    tiles, captions = [], []
    for image, ids, predicted in shown:
        tiles += [overlay_instances(image, ids, labels), overlay_predictions(image, predicted, labels)]
        captions += ["ground truth", "predicted"]
    return _sheet(tiles, captions, 2, sample(len(shown), total, "frames"))


def ids_preview(shown: Sequence[tuple[np.ndarray, np.ndarray]], labels: LabelTable, total: int) -> Markdown:
    """The first of `total` frames with instances drawn in."""
    tiles = [overlay_instances(image, ids, labels) for image, ids in shown]
    return _sheet(tiles, [""] * len(shown), 2, sample(len(shown), total, "frames"))


PICTURES, SHEET = "pictures", "sheet.png"
"""Folder and file of the contact sheet that an asset stores for the report."""


def grouping_sheet(
    truth: Mapping[int, tuple[np.ndarray, np.ndarray]], found: Mapping[str, Sequence[np.ndarray]], labels: LabelTable
) -> np.ndarray:
    """For each frame (by number) the true instances and those of each method, each instance in a colour of its own."""
    tiles, captions = [], []
    for number, (image, ids) in truth.items():
        tiles += [
            overlay_numbers(image, ids, labels),
            *(overlay_numbers(image, own[number], labels) for own in found.values()),
        ]
        captions += ["ground truth", *found]
    return contact_sheet(tiles, captions=captions, columns=1 + len(found))


def curve_picture(curve: pd.DataFrame) -> Markdown:
    """Loss over steps as a picture."""
    return Markdown(f"![loss](data:image/svg+xml;base64,{base64.b64encode(curve_svg(curve)).decode()})")


def _sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int, about: str) -> Markdown:
    return sheet_preview(contact_sheet(images, columns, captions), about)
