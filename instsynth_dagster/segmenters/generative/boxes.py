"""Boxes as signals: noised for training, sampled from noise for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert


def to_signal(boxes: Tensor, scale: float) -> Tensor:
    """Normalised cxcywh boxes in 0..1 -> signal in -scale..scale."""
    return (2 * boxes - 1) * scale


def to_boxes(signal: Tensor, scale: float) -> Tensor:
    """Inverse of `to_signal`; values outside the range are clamped, so centres and sizes lie in 0..1 and corners may
    not.
    """
    return (signal.clamp(-scale, scale) / scale + 1) / 2


def to_pixels(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Normalised cxcywh -> xyxy in pixels of an image (height, width)."""
    height, width = size
    return box_convert(boxes, "cxcywh", "xyxy") * boxes.new_tensor([width, height, width, height])


def to_normalised(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Inverse of `to_pixels`."""
    height, width = size
    return box_convert(boxes / boxes.new_tensor([width, height, width, height]), "xyxy", "cxcywh")


def repeated(truth: Tensor, count: int) -> Tensor:
    """`count` boxes: the true ones repeated, or a random choice of them where there are more.

    The paper pads with random boxes. With few proposals most of these are matched to nothing; a true box that is noised
    several times contributes each time.

    Args:
        truth: normalised cxcywh (G, 4); an empty one is replaced by the whole image.
    """
    if not len(truth):
        truth = truth.new_tensor([[0.5, 0.5, 1.0, 1.0]])
    if len(truth) >= count:
        return truth[torch.randperm(len(truth), device=truth.device)[:count]]
    return truth.repeat(-(-count // len(truth)), 1)[:count]


def noised(truth: Tensor, count: int, timestep: Tensor, schedule: Any, scale: float) -> Tensor:
    """Noisy boxes of one image, b_t = sqrt(alpha_t) b_0 + sqrt(1 - alpha_t) noise, converted to 0..1 (normalised
    cxcywh).

    Args:
        truth: normalised cxcywh (G, 4).
        timestep: int64 ().
    """
    start = to_signal(repeated(truth, count), scale)
    return to_boxes(schedule.add_noise(start, torch.randn_like(start), timestep[None]), scale)
