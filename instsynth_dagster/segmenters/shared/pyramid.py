"""A feature pyramid of one width from feature maps at several strides."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with the largest number of groups, up to 16, that divides the channels; batches are too small for
    batch norm.
    """
    return nn.GroupNorm(next(groups for groups in (16, 8, 4, 2, 1) if channels % groups == 0), channels)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, activate: bool = True) -> nn.Sequential:
    """Convolution and group norm, followed by ReLU unless `activate` is False."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        group_norm(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if activate else []))


class Pyramid(nn.Module):
    """Top-down feature pyramid; the finest stride is last in the input and first in the output.

    Args:
        channels, strides: of the maps, coarsest first.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], dim: int) -> None:
        super().__init__()
        self.strides = tuple(sorted(strides))
        self._order = sorted(range(len(strides)), key=lambda index: -strides[index])
        self.lateral = nn.ModuleList(conv(channels[index], dim, 1, activate=False) for index in self._order)
        self.smooth = nn.ModuleList(conv(dim, dim, activate=False) for _ in self._order)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_i, h_i, w_i) -> (B, dim, h_i, w_i), finest first."""
        levels: list[Tensor] = []
        above: Tensor | None = None
        for index, lateral, smooth in zip(self._order, self.lateral, self.smooth, strict=True):
            level = lateral(maps[index])
            if above is not None:
                level = level + F.interpolate(above, level.shape[-2:], mode="nearest")
            above = level
            levels.append(smooth(level))
        return levels[::-1]


class MaskFeatures(nn.Module):
    """The input map of dynamic mask heads: pyramid levels summed at the finest stride, then convolutions."""

    def __init__(self, levels: int, dim: int, channels: int) -> None:
        super().__init__()
        width = max(dim // 2, channels)
        self.branches = nn.ModuleList(conv(dim, width) for _ in range(levels))
        self.tower = nn.Sequential(conv(width, width), conv(width, width), nn.Conv2d(width, channels, 1))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """(B, channels, h, w) at the finest stride."""
        size = pyramid[0].shape[-2:]
        total = sum(
            F.interpolate(branch(level), size, mode="bilinear", align_corners=False)
            for branch, level in zip(self.branches, pyramid, strict=True)
        )
        return self.tower(total)
