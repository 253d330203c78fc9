"""A control without a model: an instance in other colours, inside its mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from instsynth_dagster.data.images import decode_png
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.seeds import content_seed

_GAINS = (0.5, 1.5)


def jitter_colors(crop: np.ndarray, mask: np.ndarray, seed: int) -> np.ndarray:
    """Rotate the hue by any angle and scale each channel by 0.5 to 1.5, which changes brightness and gives greys a hue.

    Args:
        crop: uint8 (S, S, 3) RGB.
        mask: bool (S, S).

    Returns:
        uint8 (S, S, 3), unchanged outside the mask.
    """
    rng = np.random.default_rng(seed)
    hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(rng.integers(256))  # hue is a circle of 256, as uint8 is
    turned = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)
    scaled = np.rint(turned * rng.uniform(*_GAINS, 3)).clip(0, 255).astype(np.uint8)
    return np.where(mask[..., None], scaled, crop)


def jitter_row(row: Mapping[str, Any], slot: int, seed: int) -> np.ndarray:
    """The crop of a row of `selected_instances` in other colours inside its mask, uint8 (S, S, 3); each slot has its
    own.
    """
    crop = decode_png(row["crop_png"])
    mask = decode_rle({"size": list(crop.shape[:2]), "counts": row["mask_counts"]})
    return jitter_colors(crop, mask, content_seed("color jitter", row["instance_id"], slot, seed))
