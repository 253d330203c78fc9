"""Colour normalisation of pretrained backbones: mean and standard deviation of ImageNet, RGB, 0..1."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def as_pixels(image: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W) in 0..1."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


def normalised(pixels: Tensor) -> Tensor:
    """Pixels (3, H, W) in 0..1, normalised by ImageNet's statistics, so that 0 is the mean colour."""
    import torch

    return (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


def shown(normal: Tensor) -> Tensor:
    """Inverse of `normalised`; pixels outside the image have the mean colour."""
    import torch

    return normal * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
