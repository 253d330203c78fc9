"""Boxes as signals: noised for training, drawn from noise for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert

MIN_SIDE = 1e-4
PLACEHOLDER_STD = 1 / 6
"""Boxes that pad the truth are drawn around the middle of the image, three deviations reaching its border."""


def to_signal(boxes: Tensor, scale: float) -> Tensor:
    """Normalised cxcywh boxes in 0..1 -> signal in -scale..scale."""
    return (2 * boxes - 1) * scale


def to_boxes(signal: Tensor, scale: float) -> Tensor:
    """Inverse of `to_signal`; what lies outside is clamped, so centres and sizes are in 0..1 and corners may not be."""
    return (signal.clamp(-scale, scale) / scale + 1) / 2


def to_pixels(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Normalised cxcywh -> xyxy in pixels of an image (height, width)."""
    height, width = size
    return box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor([width, height, width, height])


def to_normalised(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse of `to_pixels`."""
    height, width = size
    return box_convert(boxes / boxes.new_tensor([width, height, width, height]), "xyxy", "cxcywh")


def padded(truth: Tensor, count: int) -> Tensor:
    """`count` boxes: the true ones (a random choice where there are more), then placeholders.

    Args:
        truth: normalised cxcywh (G, 4).
    """
    if not len(truth):
        truth = truth.new_tensor([[0.5, 0.5, 1.0, 1.0]])
    if len(truth) >= count:
        return truth[torch.randperm(len(truth), device=truth.device)[:count]]
    fill = torch.randn(count - len(truth), 4, device=truth.device) * PLACEHOLDER_STD + 0.5
    fill[:, 2:] = fill[:, 2:].clamp(min=MIN_SIDE)
    return torch.cat([truth, fill])


def noised(truth: Tensor, count: int, timestep: Tensor, schedule: Any, scale: float) -> Tensor:
    """Boxes b_t = sqrt(alpha_t) b_0 + sqrt(1 - alpha_t) noise of one image, back in 0..1 (normalised cxcywh).

    Args:
        truth: normalised cxcywh (G, 4).
        timestep: int64 ().
    """
    start = to_signal(padded(truth, count), scale)
    return to_boxes(schedule.add_noise(start, torch.randn_like(start), timestep[None]), scale)
