"""A second opinion on masks: the mask at which a segmenter trained on real frames only finds a repainted instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from pycocotools import mask as coco_mask

from instsynth_dagster.data.images import decode_png
from instsynth_dagster.data.masks import decode_rle, encode_rle
from instsynth_dagster.segmenters.contract import Predictor
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import cut_box, mask_in_crop, mask_in_frame
from instsynth_dagster.synthesis.gates import MASK_IOU
from instsynth_dagster.synthesis.integration import paste

_BATCH = 4
"""Frames in a batch of the segmenter."""


def mask_agreement(
    selected: pd.DataFrame,
    crops: pd.DataFrame,
    frame_of: Callable[[str], np.ndarray],
    predictor: Predictor,
    integration: IntegrationSettings,
    min_score: float,
) -> Iterator[dict[str, Any]]:
    """Agreement of a segmenter's masks of repainted instances with the given masks, in the order of `crops`.

    Args:
        selected: rows of `selected_instances` (or `insertions`).
        crops: rows of `inpainted_crops` for them.
        frame_of: uint8 (H, W, 3) of a frame by its id.
        predictor: segments each repainting alone, pasted into its whole frame.
        min_score: score below which a predicted mask is ignored.

    Returns:
        Rows of instance_id, replica, mask_iou (IoU of the given mask and the best predicted one of its class, 0 without
        any, NaN for a crop that failed), mask_score (the segmenter's score of that mask, NaN without any), and
        found_counts (its COCO RLE in the crop box, "" without any).
    """
    by_instance = {row["instance_id"]: row for row in selected.to_dict("records")}
    last: tuple[str, np.ndarray] | None = None
    rows_of_crops = crops.to_dict("records")
    for batch in (rows_of_crops[start : start + _BATCH] for start in range(0, len(rows_of_crops), _BATCH)):
        shown, rows = [], []
        for crop in batch:
            row = by_instance[crop["instance_id"]]
            if last is None or last[0] != row["frame_id"]:
                last = row["frame_id"], frame_of(row["frame_id"])
            rows.append(row)
            if not crop.get("failure"):
                mask, box = mask_in_crop(row)
                shown.append(paste(last[1], decode_png(crop["image_png"]), mask, box, integration))
        found = iter(predictor.predict(shown)) if shown else iter(())
        for crop, row in zip(batch, rows, strict=True):
            key = {"instance_id": crop["instance_id"], "replica": crop["replica"]}
            if crop.get("failure"):
                yield key | {MASK_IOU: float("nan"), "mask_score": float("nan"), "found_counts": ""}
            else:
                yield key | _best(next(found), row, min_score)


def _best(found: pd.DataFrame, row: dict[str, Any], min_score: float) -> dict[str, Any]:
    """The predicted mask of the right class with the greatest IoU with the given one."""
    same = found[(found["class_name"] == row["class_name"]) & (found["score"] >= min_score)]
    if same.empty:
        return {MASK_IOU: 0.0, "mask_score": float("nan"), "found_counts": ""}
    size = [int(same["mask_height"].iloc[0]), int(same["mask_width"].iloc[0])]
    masks = [{"size": size, "counts": counts} for counts in same["mask_counts"]]
    given = encode_rle(mask_in_frame(row, size))
    ious = coco_mask.iou(masks, [given], [0])[:, 0]
    best = int(ious.argmax())
    in_crop = cut_box(np.repeat(decode_rle(masks[best])[..., None].astype(np.uint8), 3, axis=2), row)[..., 0] > 0
    return {
        MASK_IOU: float(ious[best]),
        "mask_score": float(same["score"].iloc[best]),
        "found_counts": encode_rle(in_crop)["counts"],
    }
