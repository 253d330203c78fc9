"""Loss normalisers: sums over the whole batch, also where it is processed in micro-batches or by several processes.

A loss that is a sum of terms N / D, with N and D sums over images, is the sum over micro-batches of N(micro-batch) /
D(batch). Each micro-batch therefore passes twice: the first time the values of D are counted, the second time the
losses are divided by their totals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed


class BatchTotals:
    """The values of D of one batch, in the order in which its losses request them."""

    def __init__(self) -> None:
        self._totals: list[Tensor] = []
        self._next = 0
        self._counting = True

    @contextmanager
    def count(self) -> Iterator[None]:
        """Context of a micro-batch's first pass: `batch_total` adds to the totals and returns its argument."""
        with self._in_use(counting=True):
            yield

    @contextmanager
    def divide(self) -> Iterator[None]:
        """Context of a micro-batch's second pass: `batch_total` returns the totals of all counted micro-batches."""
        with self._in_use(counting=False):
            yield

    @contextmanager
    def _in_use(self, counting: bool) -> Iterator[None]:
        global _in_use
        self._counting, self._next = counting, 0
        _in_use = self
        try:
            yield
        finally:
            _in_use = None

    def take(self, count: Tensor) -> Tensor:
        """The next total: adds a count in the first pass, returns the total in the second."""
        position, self._next = self._next, self._next + 1
        if not self._counting:
            return self._totals[position]
        if position == len(self._totals):
            self._totals.append(torch.zeros_like(count))
        self._totals[position] = self._totals[position] + count
        return count


_in_use: BatchTotals | None = None


def batch_total(count: Tensor | float, device: Any = None) -> Tensor:
    """The sum of a count over the whole batch, float32 ().

    With several processes it is divided by their number, because they average their gradients. All processes and
    micro-batches have to request the same totals in the same order.

    Args:
        count: count over the images of this process and micro-batch.
    """
    total = torch.as_tensor(count, dtype=torch.float32, device=device).detach().clone()
    if _in_use is not None:
        return _in_use.take(total)
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(total)
        total /= distributed.get_world_size()
    return total


def masks_per_process(class_labels: Sequence[Tensor], device: torch.device) -> Tensor:
    """Masks of the whole batch over the number of processes, float32 (), at least 1.

    transformers averages over processes and then divides by their number again, which doubles the mask losses of two
    processes.
    """
    return batch_total(sum(len(labels) for labels in class_labels), device).clamp(min=1)


def share_of_batch(count: float, device: Any) -> Tensor:
    """The factor that replaces the division by a micro-batch's count, at least 1, by that of the whole batch."""
    own = torch.tensor(float(count), device=device)
    total = own if _in_use is None else _in_use.take(own)
    return own.clamp(min=1) / total.clamp(min=1)


def batch_mean(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean of values over the whole batch, or their weighted mean; 0 where all weights are 0.

    Args:
        values: any shape.
        weights: of the same shape, or broadcastable to it.
    """
    if weights is None:
        return values.sum() / batch_total(values.numel(), values.device)
    total = batch_total(weights.sum())
    return (values * weights).sum() / torch.where(total > 0, total, torch.ones_like(total))


def batch_cross_entropy(logits: Tensor, wanted: Tensor, weight: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.cross_entropy` with its mean over the whole batch.

    Args:
        logits: (B, C, ...).
        wanted: int64 (B, ...), the target classes.
        weight: (C,), class weights.
    """
    losses = torch.nn.functional.cross_entropy(logits, wanted, weight, reduction="sum")
    weights = torch.ones_like(wanted, dtype=torch.float32) if weight is None else weight.float()[wanted]
    return losses / batch_total(weights.sum())
