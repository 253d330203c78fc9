"""Phase 3 as a whole: one row of `is_cityscapes` for each repainted (or untouched) instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.images import encode_ids, encode_png, encode_stored, sample_columns
from instsynth_dagster.data.instances import instance_areas
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import box_of
from instsynth_dagster.synthesis.gates import MASK_IOU, SCORES
from instsynth_dagster.synthesis.generators.failures import UNCHANGED
from instsynth_dagster.synthesis.integration import outside_difference, patch_of_row
from instsynth_dagster.synthesis.windows import (
    cut_ids,
    cut_image,
    paint_window,
    sample_window,
    synthetic_frame_id,
)

PROVENANCE = ("generator", "weights_digest", "scheduler", "steps", "guidance", "strength", "prompt", "seed", "replica")

VERDICT = (*SCORES, MASK_IOU, "rejection")


Paint = Callable[[Mapping[str, Any], int], np.ndarray | None]
"""A control's picture for a row and a slot: uint8 (S, S, 3) of its crop's size, or None."""


def repainted_instances(
    selected: pd.DataFrame, crops: Sequence[Mapping[str, Any]] | None, replicas: int, paint: Paint | None = None
) -> Iterator[dict[str, Any]]:
    """Selected rows with their repainting.

    With `crops` these are the chosen crops of a generator (`gates.choose_crops`); without, `replicas` pictures of each
    instance made by `paint`, by default none, which leaves the pixels untouched. `slot` numbers the samples of an
    instance.
    """
    if crops is None:
        for row in selected.to_dict("records"):
            for slot in range(replicas):
                image = paint(row, slot) if paint else None
                painted = None if image is None else encode_png(image)
                yield row | {"slot": slot, "generator": "none", "repainted_png": painted}
        return
    if selected.empty:
        return
    by_instance = selected.set_index("instance_id")
    for crop in crops:
        row = by_instance.loc[crop["instance_id"]].to_dict()
        copied = ("instance_id", "slot", *PROVENANCE, *VERDICT)
        yield row | {key: crop[key] for key in copied if key in crop} | {"repainted_png": crop["image_png"]}


def synthetic_window(
    image: np.ndarray,
    ids: np.ndarray,
    city: str,
    index: int,
    row: Mapping[str, Any],
    settings: IntegrationSettings,
    seed: int,
    labels: LabelTable,
    untouched: np.ndarray | None = None,
) -> dict[str, Any]:
    """Paste one repainted instance into its frame and cut the focused window (Eq. 2-3, corrected).

    Args:
        image, ids: the frame, uint8 (H, W, 3) and int32 (H, W).
        city, index: the city, and the row's number within the partition; they name the synthetic frame.
        row: a row of `repainted_instances`.
        seed: base seed. The window depends on instance and slot only, so that every generator and the control
            `zoom_crop` get the same windows.
        labels: label table of the data set.
        untouched: the original frame where something has been pasted into `image` already; the window shows `image`
            inside the instance only.

    Returns:
        A row of `is_cityscapes`: image_png (in the format `settings.stored_as`) and ids_png at `settings.window_size`,
        window box in source pixels, provenance, and the values that the asset checks read. Outside the instance the
        window equals the source's window bit for bit, unless it is stored as JPEG, which changes all pixels. A window
        in which the repainting changed nothing counts as not repainted, and as rejected.
    """
    window_seed = content_seed("window", row["instance_id"], row["slot"], seed)
    window = sample_window(box_of(row), image.shape[1], image.shape[0], settings, window_seed)
    value = int(row["value"])
    areas = instance_areas(ids)
    # peak memory is that of frames and windows: each is made late and freed after its last use
    window_ids = cut_ids(ids, window, settings, areas, value, labels)
    window_areas = instance_areas(window_ids)
    target = window_ids == value
    misplaced = misplaced_pixels(ids[window.y1 : window.y2, window.x1 : window.x2] == value, target)
    ids_png = encode_ids(window_ids)
    del window_ids
    patch = None if row["repainted_png"] is None else patch_of_row(image, row, settings)
    source = image if untouched is None else untouched
    source_image = cut_image(source, window, settings)
    same = image is source and patch is None
    window_image = source_image if same else paint_window(source_image, image, window, target, patch)
    difference = outside_difference(source_image, window_image, target)
    provenance = {key: row[key] for key in (*PROVENANCE, *VERDICT) if key in row}
    repainted = row["repainted_png"] is not None
    if repainted and cv2.norm(window_image, source_image, cv2.NORM_INF) == 0:
        repainted, provenance["rejection"] = False, provenance.get("rejection") or UNCHANGED
    del source_image
    image_png = encode_stored(window_image, settings.stored_as)
    label_id = labels.id_of(row["class_name"])
    return {
        "frame_id": synthetic_frame_id(city, label_id, index),
        "instance_id": row["instance_id"],
        "source_frame": row["frame_id"],
        "source_sha256": row["source_sha256"],
        "class_name": row["class_name"],
        "label_id": label_id,
        "slot": int(row["slot"]),
        "repainted": repainted,
        **provenance,
        "window_x1": window.x1,
        "window_y1": window.y1,
        "window_x2": window.x2,
        "window_y2": window.y2,
        "scale": window.scale,
        "contains_box": window.contains_box,
        "target_pixels": window_areas.get(value, 0),
        "misplaced_pixels": misplaced,
        "foreign_ids": sum(shown >= labels.factor and shown not in areas for shown in window_areas),
        "instance_classes": [labels.label_of(shown).name for shown in window_areas if shown >= labels.factor],
        "outside_difference": difference,
        **sample_columns(image_png, ids_png),
    }


def misplaced_pixels(native: np.ndarray, resized: np.ndarray) -> int:
    """Number of pixels of a resized mask that nearest-neighbour resizing cannot have put there, or has dropped.

    Nearest-neighbour resizing may move the contour by one source pixel, whatever the mask's size and the scale: pixels
    deeper inside must be set, and pixels farther outside must not. Of an enlarged mask no pixel may be lost.

    Args:
        native, resized: bool (H, W) and (h, w), the same mask before and after.
    """
    around, shown = np.ones((3, 3), np.uint8), native.view(np.uint8)
    depth = cv2.dilate(shown, around) + cv2.erode(shown, around)  # 0 outside, 1 at the contour, 2 inside
    boxes = zip(_reach(depth), _reach(resized.view(np.uint8)), strict=True)
    (rows, ys), (columns, xs) = (
        _seen(within, found, old, new)
        for (within, found), old, new in zip(boxes, native.shape, resized.shape, strict=True)
    )
    deep, found = depth[rows][:, columns], resized[ys, xs]
    wrong = int(np.count_nonzero((deep == 0) & found) + np.count_nonzero((deep == 2) & ~found))
    enlarged = resized.shape[0] >= native.shape[0] and resized.shape[1] >= native.shape[1]
    return wrong + (max(0, int(np.count_nonzero(native) - np.count_nonzero(resized))) if enlarged else 0)


def _reach(shown: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the bounding box of the non-zero pixels of uint8 (H, W)."""
    x, y, width, height = cv2.boundingRect(shown)
    return slice(y, y + height), slice(x, x + width)


def _seen(within: slice, found: slice, old: int, new: int) -> tuple[np.ndarray, slice]:
    """Source pixels (by nearest neighbour) of the stretch of a resized axis that a mask can reach, and that stretch.

    Args:
        within, found: stretches that hold the mask before and after resizing; old, new: lengths of the axis.
    """
    middles = np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(int)
    first, last = np.searchsorted(middles, (within.start, within.stop))
    if found.start < found.stop:
        first, last = min(first, found.start), max(last, found.stop)
    return middles[first:last], slice(first, last)


def masks_conserved(window: Mapping[str, Any]) -> bool:
    """Whether a window's id map is that of its source: no id that the source lacks, and the target mask in its
    place.
    """
    return window["foreign_ids"] == 0 and window["misplaced_pixels"] == 0
