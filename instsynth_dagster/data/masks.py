"""Binary masks as COCO run-length codes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from instsynth_dagster.data.images import resize_image


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Compressed COCO RLE of a bool (H, W) mask: {"size": [H, W], "counts": str}."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """bool (H, W) mask of a compressed COCO RLE."""
    columns = coco_mask.decode({"size": rle["size"], "counts": rle["counts"].encode("ascii")}).T
    return cv2.transpose(columns).view(bool)  # row by row in memory, as what it is laid over


def resize_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """A square bool (S, S) mask resized to (side, side); where it shrinks, pixels that it covers by at least 1/4 are
    set, so that thin masks survive.
    """
    image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    return resize_image(image, (side, side))[..., 0] >= (64 if len(mask) > side else 128)


def cover_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """A square bool (S, S) mask resized to (side, side); True wherever a pixel of the mask falls, however thin
    it is.
    """
    shrinks = len(mask) > side
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST_EXACT
    return cv2.resize(mask.astype(np.float32), (side, side), interpolation=interpolation) > 0


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight box (xyxy, x2/y2 exclusive) of a bool (H, W) mask; the whole image for an empty mask."""
    x, y, width, height = cv2.boundingRect(np.asarray(mask, bool).view(np.uint8)) if mask.size else (0, 0, 0, 0)
    return (x, y, x + width, y + height) if width else (0, 0, mask.shape[1], mask.shape[0])
