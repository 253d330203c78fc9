"""Crops that the gates rejected, beside those that passed, with the scores that decided."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.images import resize_image
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.evaluation.report.gallery import contact_sheet
from instsynth_dagster.settings import GateSettings
from instsynth_dagster.synthesis.gates import MASK_IOU, Sources, pasted_crops, rejection

MOST = 8
"""Default number of pairs of either kind on a sheet."""
_TILE = 112
_PASSED, _REJECTED = (46, 148, 84), (206, 60, 48)


def gate_sheet(
    selected: pd.DataFrame, crops: pd.DataFrame, scores: pd.DataFrame, gates: GateSettings, most: int = MOST
) -> np.ndarray:
    """A contact sheet of source and repainted crop, rejected ones first.

    Args:
        selected: rows of `selected_instances`.
        crops: rows of `inpainted_crops`.
        scores: rows of `crop_quality`.
        most: most pairs of either kind.

    Returns:
        uint8 (H, W, 3).
    """
    shown = crops.merge(_pick(scores, gates, most, most), on=["instance_id", "replica"], validate="one_to_one")
    shown = shown.sort_values("reason", key=lambda reason: reason == "", kind="stable")
    tiles, captions = [], []
    for row, (image, _, source) in zip(shown.to_dict("records"), pasted_crops(shown, Sources(selected)), strict=True):
        tiles.append(_pair(source, image, _REJECTED if row["reason"] else _PASSED))
        captions.append(f"rejected: {row['reason']}" if row["reason"] else f"passed: {_scores(row)}")
    return contact_sheet(tiles, columns=4, captions=captions)


def _pick(scores: pd.DataFrame, gates: GateSettings, passed: int, rejected: int) -> pd.DataFrame:
    """The first scores of either kind, with the `reason` of the rejection, "" for a crop that passed."""
    judged = scores.assign(reason=[rejection(row, gates) for row in scores.to_dict("records")])
    through = judged["reason"] == ""
    return pd.concat([judged[~through][: max(0, rejected)], judged[through][: max(0, passed)]])


def _pair(source: np.ndarray, painted: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    pair = np.hstack([resize_image(image, (_TILE, _TILE)) for image in (source, painted)])
    return cv2.rectangle(pair.copy(), (0, 0), (pair.shape[1] - 1, pair.shape[0] - 1), color, 2)


def _scores(row: dict[str, Any]) -> str:
    found = f", mask {row[MASK_IOU]:.2f}" if MASK_IOU in row else ""
    return f"margin {row['class_margin']:.2f}, change {row['change']:.2f}, seam {row['seam']:.1f}{found}"


_GIVEN, _FOUND = (255, 255, 255), (255, 60, 160)
"""Colours of contours."""


def agreement_sheet(selected: pd.DataFrame, crops: pd.DataFrame, agreement: pd.DataFrame, most: int = 8) -> np.ndarray:
    """A contact sheet of repainted crops with the given mask (white) and the mask that a segmenter found (pink).

    Those with the lowest IoU come first, then those with the highest; a caption is the class and the IoU.

    Args:
        selected: rows of `selected_instances`.
        crops: rows of `inpainted_crops`.
        agreement: rows of `mask_agreement`.
        most: most crops of either kind.

    Returns:
        uint8 (H, W, 3).
    """
    ranked = agreement.sort_values(MASK_IOU, kind="stable")
    picked = ranked if len(ranked) <= 2 * most else pd.concat([ranked[:most], ranked[-most:]])
    shown = picked.merge(crops, on=["instance_id", "replica"], validate="one_to_one")
    tiles, captions = [], []
    for row, (image, mask, _) in zip(shown.to_dict("records"), pasted_crops(shown, Sources(selected)), strict=True):
        tile = _outlined(resize_image(image, (_TILE, _TILE)), mask, _GIVEN)
        if row["found_counts"]:
            found = decode_rle({"size": list(mask.shape), "counts": row["found_counts"]})
            tile = _outlined(tile, found, _FOUND)
        tiles.append(tile)
        captions.append(f"{row['class_name']} {row[MASK_IOU]:.2f}")
    return contact_sheet(tiles, columns=8, captions=captions)


def _outlined(image: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    inside = cv2.resize(mask.astype(np.uint8), (_TILE, _TILE), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image.copy(), contours, -1, color, 1)
