"""Phase 3: the repainted instance is pasted back into its frame, inside its mask only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from instsynth_dagster.data.images import decode_png, resize_image
from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import Box, mask_in_crop

_RING = 7
"""Width in pixels of the ring around a mask on which colours are compared."""


@dataclass(frozen=True)
class Patch:
    """Pixels uint8 (h, w, 3) of a frame, and the corner (x, y) at which they lie in it."""

    pixels: np.ndarray
    x: int
    y: int

    def lay_over(self, part: np.ndarray, x: int, y: int) -> None:
        """Write the patch into a part of the frame, uint8 (h, w, 3), whose corner is at (x, y)."""
        height, width = self.pixels.shape[:2]
        left, top = max(self.x, x), max(self.y, y)
        right, bottom = min(self.x + width, x + part.shape[1]), min(self.y + height, y + part.shape[0])
        if left < right and top < bottom:
            shown = self.pixels[top - self.y : bottom - self.y, left - self.x : right - self.x]
            part[top - y : bottom - y, left - x : right - x] = shown


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
    composite = image.copy()
    pasted_patch(image, repainted, mask, box, settings).lay_over(composite, 0, 0)
    return composite


def pasted_patch(
    image: np.ndarray, repainted: np.ndarray, mask: np.ndarray, box: Box, settings: IntegrationSettings
) -> Patch:
    """The part of the composite of `paste` that holds everything that differs from the frame."""
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
    changed = source.copy()
    cv2.copyTo(painted, inside.view(np.uint8), changed)
    soft = inside & (alpha < 1)  # elsewhere the blend is what was painted
    blended = source[soft] + alpha[soft][:, None] * (painted[soft].astype(np.float32) - source[soft])
    changed[soft] = np.rint(blended).clip(0, 255).astype(np.uint8)
    return Patch(changed, x1 + left, y1 + top)


def paste_row(image: np.ndarray, row: Mapping[str, Any], settings: IntegrationSettings) -> np.ndarray:
    """Composite of a frame uint8 (H, W, 3) and the repainting of a row of `synthetic_windows.repainted_instances`."""
    composite = image.copy()
    patch_of_row(image, row, settings).lay_over(composite, 0, 0)
    return composite


def patch_of_row(image: np.ndarray, row: Mapping[str, Any], settings: IntegrationSettings) -> Patch:
    """`pasted_patch` of the repainting of a row, arguments as for `paste_row`."""
    mask, box = mask_in_crop(row)
    return pasted_patch(image, decode_png(row["repainted_png"]), mask, box, settings)


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
    x1, y1, x2, y2 = mask_box(mask)
    inside, around = np.s_[y1:y2, x1:x2], (np.s_[:y1], np.s_[y2:], np.s_[y1:y2, :x1], np.s_[y1:y2, x2:])
    # without a mask, where there can be none, OpenCV is ten times as fast
    found = [cv2.norm(source[part], painted[part], cv2.NORM_INF) for part in around if mask[part].size]
    found.append(cv2.norm(source[inside], painted[inside], cv2.NORM_INF, (~mask[inside]).view(np.uint8)))
    return int(max(found))
