"""Phase 3: the repainted instance is pasted back into its frame, inside its mask only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from instsynth_dagster.data.images import decode_png, resize_image
from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import Box, mask_in_crop

_RING = 7
"""Width in pixels of the ring around a mask on which colours are compared."""


def paste(
    image: np.ndarray, repainted: np.ndarray, mask: np.ndarray, box: Box, settings: IntegrationSettings
) -> np.ndarray:
    """Composite of a frame and a repainted crop.

    Args:
        image: frame, uint8 (H, W, 3).
        repainted: square crop of any size, uint8 (s, s, 3).
        mask: bool (S, S) in the crop box.
        box: crop box in the frame, possibly exceeding it.

    Returns:
        uint8 (H, W, 3); outside the mask every pixel is bit-identical to `image`.
    """
    side = box[2] - box[0]
    left, top, right, bottom = mask_box(mask)  # only the mask and the ring around it are read or changed
    left, top = max(left - _RING - 1, 0), max(top - _RING - 1, 0)
    right, bottom = min(right + _RING + 1, side), min(bottom + _RING + 1, side)
    repainted = resize_image(repainted, (side, side))[top:bottom, left:right]
    mask = mask[top:bottom, left:right]
    box = (box[0] + left, box[1] + top, box[0] + right, box[1] + bottom)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = max(box[0], 0), max(box[1], 0), min(box[2], width), min(box[3], height)
    in_crop = (slice(y1 - box[1], y2 - box[1]), slice(x1 - box[0], x2 - box[0]))
    source, painted, inside = image[y1:y2, x1:x2], repainted[in_crop], mask[in_crop]
    if settings.color_match == "mean_std":
        painted = match_colors(painted, source, inside)
    left, top, right, bottom = mask_box(inside)
    near = (slice(top, bottom), slice(left, right))
    alpha = feathered_alpha(mask, settings.feather)[in_crop][near]
    source, painted, inside = source[near], painted[near], inside[near]
    composite = image.copy()
    changed = composite[y1:y2, x1:x2][near]
    np.copyto(changed, painted, where=inside[..., None])
    soft = inside & (alpha < 1)  # elsewhere the blend is what was painted
    blended = source[soft] + alpha[soft][:, None] * (painted[soft].astype(np.float32) - source[soft])
    changed[soft] = np.rint(blended).clip(0, 255).astype(np.uint8)
    return composite


def paste_row(image: np.ndarray, row: Mapping[str, Any], settings: IntegrationSettings) -> np.ndarray:
    """Composite of a frame uint8 (H, W, 3) and the repainting of a row of `synthetic_windows.repainted_instances`."""
    mask, box = mask_in_crop(row)
    return paste(image, decode_png(row["repainted_png"]), mask, box, settings)


def feathered_alpha(mask: np.ndarray, feather: float) -> np.ndarray:
    """float32 (S, S) in 0..1: 0 outside the mask; inside it rises with the distance to the edge, to 1 at
    `feather` px.
    """
    if feather == 0:
        return mask.astype(np.float32)
    framed = cv2.copyMakeBorder(mask.view(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.minimum(depth / (feather + 1), 1).astype(np.float32) * mask


def match_colors(painted: np.ndarray, source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Shift and scale each channel so that the ring around the mask has the source's mean and standard deviation.

    The shift is signed, unlike the official absolute difference, so that nothing is darkened systematically. Without a
    ring (the mask fills the crop) the crop is returned unchanged.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RING + 1, 2 * _RING + 1))
    ring = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool) & ~mask
    if not ring.any():
        return painted
    ours, theirs = painted[ring].astype(np.float32), source[ring].astype(np.float32)
    gain = np.clip(theirs.std(0) / np.maximum(ours.std(0), 1), 0.5, 2)
    matched = (painted - ours.mean(0)) * gain + theirs.mean(0)
    return np.rint(matched).clip(0, 255).astype(np.uint8)


def outside_difference(source: np.ndarray, painted: np.ndarray, mask: np.ndarray) -> int:
    """Largest absolute difference of two images uint8 (H, W, 3) outside a mask bool (H, W)."""
    return int(cv2.norm(source, painted, cv2.NORM_INF, (~mask).view(np.uint8)))
