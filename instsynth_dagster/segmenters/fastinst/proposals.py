"""Instance activation-guided queries: pixels that probably lie in the middle of an object become queries
(section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_MIN_PROBABILITY = 1e-6


@dataclass
class Proposals:
    """Queries selected from a feature map (h, w).

    features and positions: (B, N, D); locations: (B, N, 2) x and y in 0..1; logits: (B, C + 1, h, w) of the auxiliary
    classifier, "no object" last.
    """

    features: Tensor
    positions: Tensor
    locations: Tensor
    logits: Tensor


class QueryProposal(nn.Module):
    """Classifies every pixel and selects those with the highest foreground probability, local maxima first."""

    def __init__(self, width: int, classes: int, queries: int) -> None:
        super().__init__()
        self.queries = queries
        self.head = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, classes + 1, 1))

    def forward(self, features: Tensor, positions: Tensor) -> Proposals:
        """The proposals for `features` and `positions`, both (B, D, h, w)."""
        logits = self.head(features)
        height, width = features.shape[-2:]
        chosen = activation_scores(logits).flatten(1).topk(min(self.queries, height * width)).indices
        x, y = (chosen % width + 0.5) / width, (chosen // width + 0.5) / height
        return Proposals(_gather(features, chosen), _gather(positions, chosen), torch.stack([x, y], dim=-1), logits)


def activation_scores(logits: Tensor) -> Tensor:
    """(B, C + 1, h, w) -> (B, h, w): the highest foreground probability of each pixel, plus 1 where it is the maximum
    of its 3x3 neighbourhood in the plane of its class.
    """
    foreground = logits.float().softmax(dim=1)[:, :-1]
    best = foreground.max(dim=1, keepdim=True)
    own = torch.zeros_like(foreground).scatter_(1, best.indices, best.values)
    peak = (own >= F.max_pool2d(own, 3, stride=1, padding=1)) & (own >= _MIN_PROBABILITY)
    return (own + peak).amax(dim=1)


def _gather(planes: Tensor, chosen: Tensor) -> Tensor:
    """(B, D, h, w) at flat positions (B, N) -> (B, N, D)."""
    return planes.flatten(2).transpose(1, 2).gather(1, chosen[..., None].expand(-1, -1, planes.shape[1]))
