"""Dual-path decoder: pixels attend to queries, then queries attend to pixels inside their masks (section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class State:
    """Input and output of a layer: pixels (B, L, D) of the finest map and queries (B, Q, D)."""

    pixels: Tensor
    queries: Tensor


class Attention(nn.Module):
    """Multi-head attention, followed by a residual connection and a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, target: Tensor, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """`target` + attention of `query` (B, N, D) to `key` (B, M, D); allowed: bool (B, N, M)."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if allowed is None else allowed[:, None])
        return self.norm(target + self.output(mixed.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """Two linear layers with a residual connection and a norm behind them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.layers(x))


class DualPathLayer(nn.Module):
    """One update of pixels, then of queries."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.pixels_to_queries = Attention(width, heads)
        self.pixel_feedforward = FeedForward(width, inner)
        self.queries_to_pixels = Attention(width, heads)
        self.between_queries = Attention(width, heads)
        self.query_feedforward = FeedForward(width, inner)

    def forward(self, state: State, pixel_positions: Tensor, query_positions: Tensor, allowed: Tensor) -> State:
        """The updated state; `allowed` bool (B, N, L) is True where a query may attend to a pixel."""
        pixels, queries = state.pixels, state.queries
        pixels = self.pixels_to_queries(pixels, pixels + pixel_positions, queries + query_positions, queries)
        pixels = self.pixel_feedforward(pixels)
        queries = self.queries_to_pixels(queries, queries + query_positions, pixels + pixel_positions, pixels, allowed)
        placed = queries + query_positions
        queries = self.between_queries(queries, placed, placed, queries)
        return State(pixels, self.query_feedforward(queries))


class PredictionHead(nn.Module):
    """Classes and masks of the queries that are not auxiliary; every depth has its own head."""

    def __init__(self, width: int, classes: int, auxiliary: int) -> None:
        super().__init__()
        self.auxiliary = auxiliary
        self.norm = nn.LayerNorm(width)
        self.classes = _mlp(width, classes + 1)
        self.masks = _mlp(width, width)
        self.pixels = nn.Linear(width, width)

    def forward(self, state: State, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Class logits (B, Q, C + 1) and mask logits (B, Q, *size)."""
        queries = self.norm(state.queries[:, : state.queries.shape[1] - self.auxiliary])
        masks = torch.einsum("bqd,bld->bql", self.masks(queries), self.pixels(state.pixels))
        return self.classes(queries), masks.unflatten(-1, size)


def where_allowed(mask: Tensor, queries: int) -> Tensor:
    """Attention masks of `queries` queries from the masks bool (B, Q, h, w) of the first Q: bool (B, queries, h * w).

    A query without any pixel, and one without a mask, may attend to every pixel.
    """
    flat = mask.flatten(2)
    allowed = flat | ~flat.any(dim=-1, keepdim=True)
    return F.pad(allowed, (0, 0, 0, queries - flat.shape[1]), value=True)


def _mlp(width: int, outputs: int) -> nn.Sequential:
    hidden = [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outputs))
