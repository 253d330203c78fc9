"""Refined labels for display: before, after, and the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from instsynth_dagster.data.images import resize_image
from instsynth_dagster.evaluation.report.gallery import contact_sheet, overlay_masks

LOST, WON, OUTLINE = (226, 60, 60), (60, 190, 90), (255, 196, 0)
TILE = 176


@dataclass(frozen=True)
class Change:
    """An image uint8 (H, W, 3) with a mask before and after, bool (H, W), and a caption."""

    image: np.ndarray
    before: np.ndarray
    after: np.ndarray
    caption: str


def change_sheet(changes: Sequence[Change]) -> np.ndarray:
    """A contact sheet uint8 (H, W, 3): for each change the crop, the mask before, the mask after, and the difference,
    with lost pixels red and gained ones green.
    """
    tiles, captions = [], []
    for change in changes:
        image, before, after = _around(change)
        tiles += [
            image,
            overlay_masks(image, [before], [""], [OUTLINE]),
            overlay_masks(image, [after], [""], [OUTLINE]) if after.any() else image,
            _difference(image, before, after),
        ]
        captions += [change.caption, "before", "after", "difference"]
    return contact_sheet(tiles, 8, captions)


def _around(change: Change) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image and masks cropped to a square around the mask and enlarged to TILE."""
    height, width = change.before.shape
    x, y, w, h = cv2.boundingRect((change.before | change.after).astype(np.uint8))
    side = min(round(1.4 * max(w, h)) + 8, height, width)
    left = int(np.clip(x + w // 2 - side // 2, 0, width - side))
    top = int(np.clip(y + h // 2 - side // 2, 0, height - side))
    part = (slice(top, top + side), slice(left, left + side))
    masks = [
        cv2.resize(mask[part].astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_NEAREST).astype(bool)
        for mask in (change.before, change.after)
    ]
    return resize_image(change.image[part], (TILE, TILE)), masks[0], masks[1]


def _difference(image: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    shown = (0.35 * image + 0.65 * image.mean(axis=2, keepdims=True) * 0.8).astype(np.uint8)
    shown[before & after] = (0.6 * shown[before & after] + 0.4 * np.array(OUTLINE)).astype(np.uint8)
    shown[before & ~after] = LOST
    shown[after & ~before] = WON
    return shown
