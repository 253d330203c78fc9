"""A training step whose batch is split into micro-batches, with the loss and the gradients of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.shared.normaliser import BatchTotals


def split(batch: Mapping[str, Any], micro_batches: int) -> list[dict[str, Any]]:
    """Equal micro-batches of a batch whose values are tensors (B, ...), lists of B items or None; their number divides
    B.
    """
    size = len(next(value for value in batch.values() if value is not None)) // micro_batches
    return [
        {name: None if value is None else value[i * size : (i + 1) * size] for name, value in batch.items()}
        for i in range(micro_batches)
    ]


def divisors(batch: int) -> list[int]:
    """Numbers of equal micro-batches into which a batch can be split, ascending."""
    return [micro_batches for micro_batches in range(1, batch + 1) if batch % micro_batches == 0]


def step_in_micro_batches(
    model: nn.Module,
    batch: Mapping[str, Any],
    micro_batches: int,
    loss_of: Callable[[dict[str, Any]], Tensor],
    backward: Callable[[Tensor], None],
    seed: int,
) -> Tensor:
    """The loss of a whole batch, with its gradients added to those of the model.

    Every micro-batch passes twice: first without gradients, to count the totals by which the losses of the batch are
    divided (`shared.normaliser`), then with them. Random numbers of a micro-batch depend on `seed` and its index and
    are the same in both passes. Batch normalisation, where a model has one that is trained, uses the statistics of one
    micro-batch.

    Args:
        loss_of: the loss of a micro-batch, ().
        backward: accumulates the gradients of a loss.
    """
    parts, totals = split(batch, micro_batches), BatchTotals()
    with torch.no_grad(), _buffers_restored(model):
        for number, part in enumerate(parts):
            torch.manual_seed(content_seed(seed, "piece", number))
            with totals.count():
                loss_of(part)
    loss = torch.zeros(())
    for number, part in enumerate(parts):
        torch.manual_seed(content_seed(seed, "piece", number))
        with totals.divide():
            own = loss_of(part)
            backward(own)
        loss = loss.to(own.device) + own.detach()
    return loss


@contextmanager
def _buffers_restored(model: nn.Module) -> Iterator[None]:
    """Context on whose exit running statistics are restored, so that they are updated once a step and not twice."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
