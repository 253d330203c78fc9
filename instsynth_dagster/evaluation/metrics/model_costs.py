"""The cost of a segmenter: parameters, multiply-accumulates and milliseconds for an image."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

REPEATS = 5


@dataclass(frozen=True)
class Cost:
    """`parameters` and `trained` (those that are trained) in millions; `gmacs`, billions of multiply-accumulates, and
    `milliseconds` (median of 5) for one image, pre- and post-processing included.
    """

    parameters: float
    trained: float
    gmacs: float
    milliseconds: float


def measure(predictor: Any, image: np.ndarray) -> Cost | None:
    """Cost of a predictor around a torch module, on an image uint8 (H, W, 3); None for a predictor without one."""
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    model = getattr(predictor, "model", None)
    if not isinstance(model, nn.Module):
        return None
    parts = {id(part): part for part in (model, getattr(model, "extractor", model))}
    parameters = list({id(p): p for part in parts.values() for p in part.parameters()}.values())
    learning = [p for p in parameters if p.requires_grad]
    counter = FlopCounterMode(display=False)
    for parameter in learning:
        parameter.requires_grad_(False)  # the counter needs gradients, which inference mode disables
    with counter:
        predictor.predict([image])
    for parameter in learning:
        parameter.requires_grad_(True)
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        predictor.predict([image])
        seconds.append(time.perf_counter() - started)
    return Cost(
        sum(p.numel() for p in parameters) / 1e6,
        sum(p.numel() for p in learning) / 1e6,
        counter.get_total_flops() / 2e9,
        1e3 * float(np.median(seconds)),
    )
