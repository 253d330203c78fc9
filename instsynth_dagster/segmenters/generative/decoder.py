"""The denoising decoder: stages that turn noisy boxes into better boxes, classes and mask kernels (DiffusionInst)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from instsynth_dagster.segmenters.generative.config import GenerativeConfig
from instsynth_dagster.segmenters.generative.dynamic_masks import kernel_length

POOLED = 7
DELTA_WEIGHTS = (2.0, 2.0, 1.0, 1.0)
MAX_GROWTH = math.log(100_000 / 16)
PRIOR = 0.01
REGRESSION_LAYERS = 3


@dataclass(frozen=True)
class Prediction:
    """Output of a stage for each proposal: logits (B, Q, C), boxes xyxy in pixels (B, Q, 4), kernels (B, Q, K)."""

    logits: Tensor
    boxes: Tensor
    kernels: Tensor

    def of(self, image: int) -> Prediction:
        """The prediction of one image, without the batch dimension."""
        return Prediction(self.logits[image], self.boxes[image], self.kernels[image])


class Decoder(nn.Module):
    """Stages that each start from the detached boxes of the previous one."""

    def __init__(self, config: GenerativeConfig, strides: Sequence[int]) -> None:
        super().__init__()
        self.dim = config.dim
        self.strides, self.rounds = tuple(strides), config.stages
        self.time = nn.Sequential(
            nn.Linear(config.dim, 4 * config.dim), nn.GELU(), nn.Linear(4 * config.dim, 4 * config.dim)
        )
        self.stages = nn.ModuleList(_Stage(config) for _ in range(1 if config.shared_stages else config.stages))

    def forward(self, pyramid: Sequence[Tensor], boxes: Tensor, timesteps: Tensor) -> list[Prediction]:
        """A prediction of each stage.

        Args:
            pyramid: (B, dim, h_i, w_i), finest first.
            boxes: xyxy (B * W, Q, 4) in pixels, for W windows of each image; proposals of one window attend to each
                other.
            timesteps: int64 (B * W,).
        """
        time = self.time(_sinusoidal(timesteps, self.dim))
        features: Tensor | None = None
        predictions = []
        groups, proposals, images = *boxes.shape[:2], len(pyramid[0])
        for index in range(self.rounds):
            regions = pooled(pyramid, self.strides, boxes.reshape(images, -1, 4))
            regions = regions.view(groups, proposals, self.dim, -1)
            prediction, features = self.stages[index % len(self.stages)](regions, boxes, features, time)
            predictions.append(prediction)
            boxes = prediction.boxes.detach()
        return predictions


class _Stage(nn.Module):
    def __init__(self, config: GenerativeConfig) -> None:
        super().__init__()
        dim = config.dim
        self.attention = nn.MultiheadAttention(dim, config.heads, batch_first=True)
        self.interaction = _DynamicConv(dim, config.dynamic_dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, config.feedforward_dim), nn.ReLU(), nn.Linear(config.feedforward_dim, dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(4 * dim, 2 * dim))
        self.class_tower, self.box_tower = _tower(dim, 1), _tower(dim, REGRESSION_LAYERS)
        classes = len(config.classes)
        self.class_logits = (
            CosineClassifier(dim, classes, config.cosine_scale) if config.cosine_scale else nn.Linear(dim, classes)
        )
        self.box_deltas = nn.Linear(dim, 4)
        self.controller = nn.Linear(dim, kernel_length(config.mask_channels, config.rel_coords))
        # by name only: with few classes other parameters have the same size as the classifier
        nn.init.constant_(self.class_logits.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(
        self, regions: Tensor, boxes: Tensor, features: Tensor | None, time: Tensor
    ) -> tuple[Prediction, Tensor]:
        """Prediction and features from regions (B, Q, dim, 49) in boxes (B, Q, 4); `features` (B, Q, dim) are those of
        the previous stage.
        """
        x = regions.mean(-1) if features is None else features
        x = self.norms[0](x + self.attention(x, x, x, need_weights=False)[0])
        x = self.norms[1](x + self.interaction(x, regions))
        x = self.norms[2](x + self.feedforward(x))
        scale, shift = self.modulation(time)[:, None].chunk(2, dim=-1)
        x = x * (1 + scale) + shift
        regression = self.box_tower(x)
        prediction = Prediction(
            self.class_logits(self.class_tower(x)),
            moved(boxes, self.box_deltas(regression)),
            self.controller(regression),
        )
        return prediction, x


class _DynamicConv(nn.Module):
    """Two 1x1 convolutions on each proposal's region, with weights from the proposal itself."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.parameters_of = nn.Linear(dim, 2 * dim * inner)
        self.norm_inner, self.norm_region, self.norm_out = nn.LayerNorm(inner), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.out = nn.Linear(dim * POOLED**2, dim)

    def forward(self, x: Tensor, regions: Tensor) -> Tensor:
        """x (B, Q, dim), regions (B, Q, dim, 49) -> (B, Q, dim)."""
        batch, proposals, dim = x.shape
        first, second = self.parameters_of(x).flatten(0, 1).chunk(2, dim=-1)
        hidden = regions.flatten(0, 1).transpose(1, 2) @ first.view(-1, dim, self.inner)
        hidden = self.norm_inner(hidden).relu() @ second.view(-1, self.inner, dim)
        hidden = self.norm_region(hidden).relu()
        return self.norm_out(self.out(hidden.flatten(1))).relu().view(batch, proposals, dim)


def pooled(pyramid: Sequence[Tensor], strides: Sequence[int], boxes: Tensor) -> Tensor:
    """Features (B * Q, dim, 7, 7) inside boxes xyxy (B, Q, 4) in pixels, each from one level of a pyramid.

    A box is read from the coarsest level on which its side has at least 7 cells, one position for each pooled cell.
    Positions are the centres of cells (`aligned`); torchvision's own multi-scale pooling is off by half a cell.

    Args:
        pyramid: (B, dim, h_i, w_i), finest first.
    """
    images = torch.arange(len(boxes), device=boxes.device).repeat_interleave(boxes.shape[1])
    rois = torch.cat([images[:, None].to(boxes), boxes.flatten(0, 1)], dim=1)
    sides = (rois[:, 3:] - rois[:, 1:3]).prod(1).clamp(min=1.0).sqrt()
    edges = sides.new_tensor([float(POOLED * stride) for stride in strides[1:]])
    chosen = torch.bucketize(sides, edges, right=True)
    regions = pyramid[0].new_zeros(len(rois), pyramid[0].shape[1], POOLED, POOLED)
    for level, (features, stride) in enumerate(zip(pyramid, strides, strict=True)):
        rows = (chosen == level).nonzero()[:, 0]
        regions[rows] = roi_align(features, rois[rows], POOLED, 1 / stride, 1, aligned=True)
    return regions


class CosineClassifier(nn.Module):
    """logit = scale * cos(x, w) + bias; the length of a feature, which a few shots cannot calibrate, has no
    influence.
    """

    def __init__(self, dim: int, classes: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dim) * dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(classes))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., classes)."""
        return self.scale * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1)) + self.bias


def moved(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Boxes xyxy moved by deltas (dx, dy relative to the size, log dw, log dh), of any leading shape."""
    size = boxes[..., 2:] - boxes[..., :2]
    deltas = deltas / deltas.new_tensor(DELTA_WEIGHTS)
    center = (boxes[..., :2] + boxes[..., 2:]) / 2 + deltas[..., :2] * size
    half = size * deltas[..., 2:].clamp(max=MAX_GROWTH).exp() / 2
    return torch.cat([center - half, center + half], dim=-1)


def _tower(dim: int, layers: int) -> nn.Sequential:
    parts = [(nn.Linear(dim, dim, bias=False), nn.LayerNorm(dim), nn.ReLU()) for _ in range(layers)]
    return nn.Sequential(*(module for part in parts for module in part))


def _sinusoidal(timesteps: Tensor, dim: int) -> Tensor:
    """float (B, dim)."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=timesteps.device) / half)
    angles = timesteps[:, None].float() * frequencies
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, dim - 2 * half))
