"""Boxes as signals: noised for training, drawn from noise for inference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_convert


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


def repeated(truth: Tensor, count: int) -> Tensor:
    """`count` boxes: the true ones over and over, a random choice of them where there are more.

    The paper pads with random boxes. With few proposals most of these answer for nothing; a true box that is noised
    many times teaches each time.

    Args:
        truth: normalised cxcywh (G, 4); where there is none, the whole image stands for it.
    """
    if not len(truth):
        truth = truth.new_tensor([[0.5, 0.5, 1.0, 1.0]])
    if len(truth) >= count:
        return truth[torch.randperm(len(truth), device=truth.device)[:count]]
    return truth.repeat(-(-count // len(truth)), 1)[:count]


def noised(truth: Tensor, count: int, timestep: Tensor, schedule: Any, scale: float) -> Tensor:
    """Boxes b_t = sqrt(alpha_t) b_0 + sqrt(1 - alpha_t) noise of one image, back in 0..1 (normalised cxcywh).

    Args:
        truth: normalised cxcywh (G, 4).
        timestep: int64 ().
    """
    start = to_signal(repeated(truth, count), scale)
    return to_boxes(schedule.add_noise(start, torch.randn_like(start), timestep[None]), scale)
