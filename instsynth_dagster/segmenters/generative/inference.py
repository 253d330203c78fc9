"""From noise to instances: denoise, renew, ensemble, suppress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from instsynth_dagster.segmenters.generative.boxes import to_boxes, to_normalised, to_pixels, to_signal
from instsynth_dagster.segmenters.generative.config import GenerativeConfig
from instsynth_dagster.segmenters.generative.decoder import Prediction

SEED = 0

Decode = Callable[[Tensor, int], Prediction]
"""Boxes xyxy (Q, 4) in pixels and a time step -> the last stage's prediction of one image."""


def denoise(decode: Decode, schedule: Any, size: tuple[int, int], config: GenerativeConfig, device: str) -> Prediction:
    """Candidates of all steps together, `num_proposals` for each step: the gain of more steps is that of an ensemble.

    The noise is the same for every image. After each step but the last, boxes whose best score is below
    `renewal_threshold` start anew from noise.
    """
    generator = torch.Generator().manual_seed(SEED)

    def noise() -> Tensor:
        return torch.randn(config.num_proposals, 4, generator=generator).to(device)

    schedule.set_timesteps(config.sample_steps, device=device)
    state, steps = noise(), []
    for timestep in schedule.timesteps:
        boxes = to_pixels(to_boxes(state, config.signal_scale), size)
        prediction = decode(boxes, int(timestep))
        steps.append(prediction)
        clean = to_signal(to_normalised(prediction.boxes, size), config.signal_scale)
        clean = clean.clamp(-config.signal_scale, config.signal_scale)
        state = schedule.step(clean, timestep, state, eta=1.0, variance_noise=noise()).prev_sample
        weak = prediction.logits.sigmoid().amax(1) < config.renewal_threshold
        state = torch.where(weak[:, None], noise(), state)
    return Prediction(*(torch.cat([getattr(step, name) for step in steps]) for name in ("logits", "boxes", "kernels")))


def survivors(candidates: Prediction, config: GenerativeConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The best (candidate, class) pairs, `num_proposals` at most, after suppression within each class.

    Returns:
        Indices of candidates int64 (S,), classes int64 (S,), scores float (S,), best first.
    """
    scores = candidates.logits.sigmoid()
    best, pairs = scores.flatten().topk(min(config.num_proposals, scores.numel()))
    rows, classes = pairs // scores.shape[1], pairs % scores.shape[1]
    kept = batched_nms(candidates.boxes[rows], best, classes, config.nms)
    return rows[kept], classes[kept], best[kept]
