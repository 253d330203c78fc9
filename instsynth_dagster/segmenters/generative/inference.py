"""Inference from noise to instances: denoising, box renewal, ensembling, suppression."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from instsynth_dagster.segmenters.generative.boxes import to_boxes, to_signal
from instsynth_dagster.segmenters.generative.config import GenerativeConfig
from instsynth_dagster.segmenters.generative.decoder import Prediction

SEED = 0
PAIRS = 300
"""Most (candidate, class) pairs that enter the suppression."""

Decode = Callable[[Tensor, int], Prediction]
"""Maps boxes xyxy (W, Q, 4) in pixels and a time step to the last stage's prediction."""


def windows(size: tuple[int, int], window: tuple[int, int] | None) -> Tensor:
    """Windows xyxy float (W, 4) that cover an image (height, width), overlapping by half."""
    height, width = (min(own, side) for own, side in zip(window or size, size, strict=True))
    rows, columns = (
        torch.linspace(0, side - own, 1 + math.ceil(2 * (side - own) / own)).tolist()
        for own, side in ((height, size[0]), (width, size[1]))
    )
    return torch.tensor([[x, y, x + width, y + height] for y in rows for x in columns])


def denoise(decode: Decode, schedule: Any, frames: Tensor, config: GenerativeConfig) -> Prediction:
    """Candidates of all steps and windows, (K, ...): `num_proposals` for each, because further steps act as an
    ensemble.

    The noise is the same for every image. After each step but the last, boxes whose best score is below
    `renewal_threshold` are replaced by noise.

    Args:
        frames: windows xyxy (W, 4) in pixels; boxes are normalised to them.
    """
    generator = torch.Generator().manual_seed(SEED)
    corner = frames[:, None, :2].repeat(1, 1, 2)
    extent = (frames[:, 2:] - frames[:, :2])[:, None]

    def noise() -> Tensor:
        return torch.randn(len(frames), config.num_proposals, 4, generator=generator).to(frames.device)

    schedule.set_timesteps(config.sample_steps, device=frames.device)
    state, steps = noise(), []
    for timestep in schedule.timesteps:
        boxes = box_convert(to_boxes(state, config.signal_scale), "cxcywh", "xyxy") * extent.repeat(1, 1, 2) + corner
        prediction = decode(boxes, int(timestep))
        steps.append(prediction)
        clean = box_convert((prediction.boxes - corner) / extent.repeat(1, 1, 2), "xyxy", "cxcywh")
        clean = to_signal(clean, config.signal_scale).clamp(-config.signal_scale, config.signal_scale)
        state = schedule.step(clean, timestep, state, eta=1.0, variance_noise=noise()).prev_sample
        weak = prediction.logits.sigmoid().amax(-1) < config.renewal_threshold
        state = torch.where(weak[..., None], noise(), state)
    return Prediction(
        *(torch.cat([getattr(step, name) for step in steps]).flatten(0, 1) for name in ("logits", "boxes", "kernels"))
    )


def survivors(candidates: Prediction, config: GenerativeConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The best (candidate, class) pairs, at most `PAIRS`, after suppression within each class.

    Returns:
        Indices of candidates int64 (S,), classes int64 (S,), scores float (S,), best first.
    """
    scores = candidates.logits.sigmoid()
    best, pairs = scores.flatten().topk(min(PAIRS, scores.numel()))
    rows, classes = pairs // scores.shape[1], pairs % scores.shape[1]
    kept = batched_nms(candidates.boxes[rows], best, classes, config.nms)
    return rows[kept], classes[kept], best[kept]
