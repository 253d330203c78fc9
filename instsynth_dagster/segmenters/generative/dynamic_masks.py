"""The dynamic mask head: each instance provides the weights of its own three 1x1 convolutions (CondInst)."""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 2.0
"""Largest relative coordinate, in halves of the box."""


def layer_sizes(channels: int, rel_coords: bool) -> list[tuple[int, int]]:
    """(inputs, outputs) of the three layers."""
    return [(channels + 2 * rel_coords, channels), (channels, channels), (channels, 1)]


def kernel_length(channels: int, rel_coords: bool) -> int:
    """Number of parameters of one instance's head: 153 for 8 channels, 169 with relative coordinates."""
    return sum(inputs * outputs + outputs for inputs, outputs in layer_sizes(channels, rel_coords))


def dynamic_masks(features: Tensor, kernels: Tensor, boxes: Tensor, stride: int, rel_coords: bool) -> Tensor:
    """Mask logits (N, h, w) of one image's instances.

    Args:
        features: (C, h, w) at `stride`.
        kernels: (N, K): all weights, layer by layer, then all biases.
        boxes: xyxy (N, 4) in pixels; positions are relative to the box, with -1 and 1 at its sides, so that neither the
            size of the image nor that of the object has an influence.
    """
    channels, height, width = features.shape
    sizes = layer_sizes(channels, rel_coords)
    weights, biases = _split(kernels, sizes)
    hidden = torch.einsum("noc,chw->nohw", weights[0][..., :channels], features)
    if rel_coords:
        place = _relative(boxes, height, width, stride)
        hidden = hidden + torch.einsum("noc,nchw->nohw", weights[0][..., channels:], place)
    hidden = hidden + biases[0][..., None, None]
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        hidden = torch.einsum("noc,nchw->nohw", weight, hidden.relu()) + bias[..., None, None]
    return hidden[:, 0]


def _split(kernels: Tensor, sizes: list[tuple[int, int]]) -> tuple[list[Tensor], list[Tensor]]:
    lengths = [inputs * outputs for inputs, outputs in sizes] + [outputs for _, outputs in sizes]
    parts = kernels.split(lengths, dim=1)
    weights = [part.view(-1, outputs, inputs) for part, (inputs, outputs) in zip(parts, sizes, strict=False)]
    return weights, list(parts[len(sizes) :])


def _relative(boxes: Tensor, height: int, width: int, stride: int) -> Tensor:
    """(N, 2, h, w): each cell's centre relative to the boxes, x then y."""
    ys = (torch.arange(height, device=boxes.device) + 0.5) * stride
    xs = (torch.arange(width, device=boxes.device) + 0.5) * stride
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"))
    middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, ((boxes[:, 2:] - boxes[:, :2]) / 2).clamp(min=stride / 2)
    return ((grid - middle[..., None, None]) / half[..., None, None]).clamp(-REACH, REACH)
