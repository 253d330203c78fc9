"""Regions cropped from images at one size, and masks pasted back to the same place, without rounding of coordinates."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align


def cut_regions(pixels: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Regions (N, C, side, side) of an image (C, H, W); each cell is the mean of the pixels that it covers, 0 outside
    the image.

    Args:
        boxes: xyxy float (N, 4) in pixels; they may exceed the image.
    """
    # the library repeats the outermost pixels for one more pixel, and is 0 beyond that
    return roi_align(pixels[None].float(), [boxes.float()], side, aligned=True)


def paste_mask(logits: Tensor, box: Tensor, size: tuple[int, int]) -> np.ndarray:
    """bool (H, W): where the logits (side, side) of a region are above 0, by the inverse of `cut_regions`.

    Args:
        box: xyxy float (4,) in pixels.
        size: height and width of the image.
    """
    mask = np.zeros(size, dtype=bool)
    x1, y1, x2, y2 = box.tolist()
    left, top = max(0, math.floor(x1)), max(0, math.floor(y1))
    right, bottom = min(size[1], math.ceil(x2)), min(size[0], math.ceil(y2))
    if left >= right or top >= bottom:
        return mask
    u = (torch.arange(left, right) + 0.5 - x1) / (x2 - x1) * 2 - 1
    v = (torch.arange(top, bottom) + 0.5 - y1) / (y2 - y1) * 2 - 1
    grid = torch.stack(torch.meshgrid(u, v, indexing="xy"), dim=-1)[None].float()
    sampled = F.grid_sample(logits[None, None].cpu().float(), grid, padding_mode="border", align_corners=False)[0, 0]
    inside = (grid[0].abs() <= 1).all(-1)
    mask[top:bottom, left:right] = ((sampled > 0) & inside).numpy()
    return mask


def enlarged(boxes: Tensor, share: float) -> Tensor:
    """Boxes xyxy grown by `share` of their sides, and made at least one pixel wide."""
    half = ((boxes[:, 2:] - boxes[:, :2]) * (1 + share)).clamp(min=1) / 2
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return torch.cat([center - half, center + half], dim=1)
