"""PPM-FPN: a feature pyramid over strides 8, 16 and 32 with pyramid pooling at the top (section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_POOLED_SIDES = (1, 2, 3, 6)
_GROUPS = 32


class PixelDecoder(nn.Module):
    """Converts backbone features to three maps of one width."""

    def __init__(self, channels: Sequence[int], width: int, pyramid_width: int) -> None:
        """A decoder for inputs with these `channels`, finest first."""
        super().__init__()
        self.laterals = nn.ModuleList(nn.Sequential(nn.Conv2d(c, width, 1, bias=False), _norm(width)) for c in channels)
        self.outputs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), _norm(width), nn.ReLU()) for _ in channels
        )
        self.pyramid = PyramidPooling(width, pyramid_width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """(B, C_i, H_i, W_i), finest first -> (B, width, H_i, W_i), finest first."""
        maps = [lateral(feature) for lateral, feature in zip(self.laterals, features, strict=True)]
        above = self.pyramid(maps[-1])
        decoded = [self.outputs[-1](above)]
        for lateral, output in zip(maps[-2::-1], list(self.outputs)[-2::-1], strict=True):
            above = output(lateral + F.interpolate(decoded[0], lateral.shape[-2:], mode="bilinear"))
            decoded.insert(0, above)
        return decoded


class PyramidPooling(nn.Module):
    """Context from four pooled grids, concatenated with the input (Zhao et al., 2017)."""

    def __init__(self, width: int, branch: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(width, branch, 1) for _ in _POOLED_SIDES)
        self.merge = nn.Conv2d(width + branch * len(_POOLED_SIDES), width, 1)

    def forward(self, features: Tensor) -> Tensor:
        pooled = [
            F.interpolate(branch(F.adaptive_avg_pool2d(features, side)).relu(), features.shape[-2:], mode="bilinear")
            for branch, side in zip(self.branches, _POOLED_SIDES, strict=True)
        ]
        return self.merge(torch.cat([features, *pooled], dim=1)).relu()


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(_GROUPS, width), width)
