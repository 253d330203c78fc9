"""A training step whose batch is worked through in pieces, with the loss and the gradients of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.shared.normaliser import BatchTotals


def split(batch: Mapping[str, Any], pieces: int) -> list[dict[str, Any]]:
    """Equal pieces of a batch whose values are tensors (B, ...), lists of B items or None; `pieces` divides B."""
    size = len(next(value for value in batch.values() if value is not None)) // pieces
    return [
        {name: None if value is None else value[i * size : (i + 1) * size] for name, value in batch.items()}
        for i in range(pieces)
    ]


def divisors(batch: int) -> list[int]:
    """Numbers of equal pieces that a batch can be cut into, ascending."""
    return [pieces for pieces in range(1, batch + 1) if batch % pieces == 0]


def step_in_pieces(
    model: nn.Module,
    batch: Mapping[str, Any],
    pieces: int,
    loss_of: Callable[[dict[str, Any]], Tensor],
    backward: Callable[[Tensor], None],
    seed: int,
) -> Tensor:
    """The loss of a whole batch, its gradients added to those of the model.

    Every piece is passed twice: first without gradients, to count what the losses of the batch are divided by
    (`shared.normaliser`), then with them. What a piece draws at random depends on `seed` and its number and is the same
    both times. Batch normalisation, where a model has one that learns, sees one piece at a time.

    Args:
        loss_of: the loss of a piece, ().
        backward: accumulates the gradients of a loss.
    """
    parts, totals = split(batch, pieces), BatchTotals()
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
    """Running statistics are updated once a step, not twice."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
