"""Occlusions that the data does not hold: an instance pasted over another (copy-paste augmentation)."""

from __future__ import annotations

import math

import cv2
import numpy as np

from instsynth_dagster.masks import mask_box

Cutout = tuple[np.ndarray, np.ndarray]
"""An image uint8 (H, W, 3) and the mask bool (H, W) of an instance in it."""


def pasted(back: Cutout, front: Cutout, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`back` with the instance of `front` over its own: image, what is left of its mask, and the mask of the new one.

    The new one is 0.4 to 1.2 times as large (square root of its box's area), its centre anywhere in the
    other's box.
    """
    image, mask = back
    x1, y1, x2, y2 = mask_box(mask)
    a, b, c, d = mask_box(front[1])
    scale = rng.uniform(0.4, 1.2) * math.sqrt((x2 - x1) * (y2 - y1) / ((c - a) * (d - b)))
    width, height = (max(1, round(scale * side)) for side in (c - a, d - b))
    smoothing = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    colors = cv2.resize(front[0][b:d, a:c], (width, height), interpolation=smoothing)
    shape = cv2.resize(front[1][b:d, a:c].astype(np.float32), (width, height), interpolation=smoothing) > 0.5
    left, top = round(rng.uniform(x1, x2) - width / 2), round(rng.uniform(y1, y2) - height / 2)
    there = np.s_[max(0, top) : top + height, max(0, left) : left + width]
    rows, columns = mask[there].shape
    here = np.s_[max(0, -top) :, max(0, -left) :]
    shape, colors = shape[here][:rows, :columns], colors[here][:rows, :columns]
    placed = np.zeros_like(mask)
    placed[there] = shape
    mixed = image.copy()
    mixed[placed] = colors[shape]
    return mixed, mask & ~placed, placed
