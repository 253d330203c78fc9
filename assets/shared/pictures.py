"""Pictures for the UI."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from assets.shared.made import Markdown
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

PREVIEWED_CROPS, PREVIEWED_WINDOWS = 12, 4
_TILE = 128


def crops_preview(rows: Sequence[Mapping[str, Any]], key: str) -> Markdown:
    """The first crops of a partition side by side, with their prompts where they have one."""
    first = rows[:PREVIEWED_CROPS]
    tiles = [resize_image(decode_png(row[key]), (_TILE, _TILE)) for row in first]
    return _sheet(tiles, [row.get("prompt") or row["instance_id"] for row in first], columns=6)


def sheet_preview(sheet: np.ndarray) -> Markdown:
    """A finished contact sheet."""
    return Markdown(thumbnail_markdown(sheet, width=900))


def windows_preview(windows: Sequence[Mapping[str, Any]], labels: LabelTable) -> Markdown:
    """Windows, and the same windows with their labels drawn in, for the first rows."""
    tiles, captions = [], []
    for window in windows[:PREVIEWED_WINDOWS]:
        image, ids = decode_png(window["image_png"]), decode_ids(window["ids_png"])
        tiles += [image, overlay_instances(image, ids, labels)]
        captions += [window.get("prompt") or window["instance_id"], f"labels of {window['frame_id']}"]
    return _sheet(tiles, captions, columns=2)


def predictions_preview(shown: Sequence[tuple[np.ndarray, np.ndarray, pd.DataFrame]], labels: LabelTable) -> Markdown:
    """Ground truth beside confident predictions, for the first val frames."""
    tiles, captions = [], []
    for image, ids, predicted in shown:
        tiles += [overlay_instances(image, ids, labels), overlay_predictions(image, predicted, labels)]
        captions += ["ground truth", "predicted"]
    return _sheet(tiles, captions, columns=2)


def ids_preview(shown: Sequence[tuple[np.ndarray, np.ndarray]], labels: LabelTable) -> Markdown:
    """Frames with instances drawn in."""
    return _sheet([overlay_instances(image, ids, labels) for image, ids in shown], [""] * len(shown), columns=2)


PICTURES, SHEET = "pictures", "sheet.png"
"""Folder and file of the contact sheet that an asset keeps for the report."""


def grouping_sheet(
    truth: Mapping[int, tuple[np.ndarray, np.ndarray]], found: Mapping[str, Sequence[np.ndarray]], labels: LabelTable
) -> np.ndarray:
    """For each frame (by number) the true instances, and those that each method told apart, each in a colour of its
    own."""
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


def _sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int) -> Markdown:
    return sheet_preview(contact_sheet(images, columns, captions))
