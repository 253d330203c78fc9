"""EfficientNet-Lite0 as TensorFlow trained it: no squeeze and excitation, ReLU6, padding as TensorFlow pads."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""Repeats, kernel, stride of the first, expansion, channels."""


class Conv(nn.Conv2d):
    """A convolution without bias; of an odd padding the larger half lies right and below."""

    def __init__(self, given: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(given, out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(x, pads))


class Block(nn.Module):
    """Expand, filter each channel, project; beside it the input where the shape stays."""

    def __init__(self, given: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = given * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = Conv(given, wide), _norm(wide)
        self._depthwise_conv, self._bn1 = Conv(wide, wide, kernel, stride, wide), _norm(wide)
        self._project_conv, self._bn2 = Conv(wide, out), _norm(out)
        self._stays = stride == 1 and given == out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self._stays else y


class EfficientNetLite0(nn.Module):
    """Names of parameters are those of the published state dict."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = Conv(3, 32, 3, 2), _norm(32)
        blocks, given = [], 32
        for repeats, kernel, stride, expansion, out in _STAGES:
            for index in range(repeats):
                blocks.append(Block(given, out, kernel, stride if index == 0 else 1, expansion))
                given = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = Conv(given, 1280), _norm(1280)
        self._fc = nn.Linear(1280, 1000)

    def maps(self, pixels: Tensor) -> Tensor:
        """Features (B, 1280, h, w) of pixels (B, 3, H, W) in -1..1."""
        x = F.relu6(self._bn0(self._conv_stem(pixels)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)))

    def forward(self, pixels: Tensor) -> Tensor:
        """ImageNet logits (B, 1000)."""
        return self._fc(self.maps(pixels).mean((2, 3)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


@torch.inference_mode()
def load(state: dict[str, Tensor]) -> EfficientNetLite0:
    """A network that lacks no weight and leaves none over."""
    network = EfficientNetLite0()
    network.load_state_dict(OrderedDict(state), strict=True)
    return network.eval()
