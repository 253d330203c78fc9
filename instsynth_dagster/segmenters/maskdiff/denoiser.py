"""The mask denoiser: a UNet whose input is a noisy mask, the region and the shots, concatenated."""

from __future__ import annotations

from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instsynth_dagster.models.denoising import cosine_schedule
from instsynth_dagster.segmenters.maskdiff.config import MaskDiffConfig
from instsynth_dagster.segmenters.shared.normaliser import batch_mean

NO_CLASS = 0
"""Row of the class embedding for "any class"."""
SHOT_CHANNELS = 4
_SEED = 0


class MaskDenoiser(nn.Module):
    """y: mask in -1..1 (B, 1, R, R). x: region (B, 3, R, R). k: shots (B, K, 4, R, R), colours (0 outside the instance)
    and mask in -1..1.
    """

    def __init__(self, config: MaskDiffConfig) -> None:
        super().__init__()
        self.sizes = config  # not named `config`, to which transformers' Trainer would write
        shots = config.shots if config.shots_mode == "concat" else 1
        plain, attending = len(config.blocks) - config.attention_levels, config.attention_levels
        groups = next(number for number in (32, 16, 8, 4, 2, 1) if all(c % number == 0 for c in config.blocks))
        self.unet: Any = diffusers.UNet2DModel(
            sample_size=config.region // config.patch,
            in_channels=(1 + 3 + SHOT_CHANNELS * shots) * config.patch**2,
            out_channels=config.patch**2,
            layers_per_block=config.layers,
            block_out_channels=config.blocks,
            down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attending,
            up_block_types=("AttnUpBlock2D",) * attending + ("UpBlock2D",) * plain,
            num_class_embeds=len(config.classes) + 1,
            norm_num_groups=groups,
        )
        self.schedule = cosine_schedule(timesteps=config.timesteps, prediction=config.prediction)

    def forward(self, masks: Tensor, regions: Tensor, shots: Tensor, class_labels: Tensor) -> dict[str, Tensor]:
        """The simple loss E|target - prediction|^2 of a batch; class_labels int64 (B,) index `classes`."""
        batch, device = len(masks), masks.device
        share = torch.rand(batch, device=device) ** (1 / self.sizes.noise_bias)
        steps = (self.sizes.timesteps * share).long().clamp(max=self.sizes.timesteps - 1)
        noise = torch.randn_like(masks)
        withheld = torch.rand(batch, device=device) < self.sizes.condition_drop
        labels = torch.where(withheld, NO_CLASS, class_labels + 1)
        predicted = self.predict(self.schedule.add_noise(masks, noise, steps), regions, shots, labels, steps)
        target = masks if self.sizes.prediction == "sample" else noise
        return {"loss": batch_mean((predicted.float() - target).square())}

    def predict(self, noisy: Tensor, regions: Tensor, shots: Tensor, labels: Tensor, steps: Tensor) -> Tensor:
        """Output of the UNet (B, 1, R, R); with `shots_mode` mean the mean over single shots.

        Args:
            labels: int64 (B,), rows of the class embedding.
            steps: int64 (B,).
        """
        if self.sizes.shots_mode == "concat":
            return self._infer(torch.cat([noisy, regions, shots.flatten(1, 2)], 1), steps, labels)
        count = shots.shape[1]
        given = torch.cat([noisy, regions], 1).repeat_interleave(count, 0)
        each = self._infer(
            torch.cat([given, shots.flatten(0, 1)], 1),
            steps.repeat_interleave(count),
            labels.repeat_interleave(count),
        )
        return each.unflatten(0, (-1, count)).mean(1)

    def _infer(self, planes: Tensor, steps: Tensor, labels: Tensor) -> Tensor:
        """Output of the UNet on patches: `patch` x `patch` cells of a plane become channels of one cell, and back."""
        patch = self.sizes.patch
        return F.pixel_shuffle(self.unet(F.pixel_unshuffle(planes, patch), steps, labels).sample, patch)

    @torch.inference_mode()
    def sample(self, regions: Tensor, shots: Tensor, class_labels: Tensor) -> Tensor:
        """Masks in -1..1 (B, R, R), the mean of `samples` draws; a row does not depend on the others.

        Every second draw uses the mirrored region with the same noise, so that with an even number of draws the mask of
        a mirrored region is the mirrored mask.
        """
        config, device = self.sizes, regions.device
        generator = torch.Generator().manual_seed(_SEED)
        total = torch.zeros(len(regions), 1, config.region, config.region, device=device)
        for number in range(config.samples):
            flip = [-1] if number % 2 else []
            if not flip:
                noise = torch.randn(1, 1, config.region, config.region, generator=generator).to(device)
            state = noise.expand(len(regions), -1, -1, -1)
            self.schedule.set_timesteps(config.steps, device=device)
            for step in self.schedule.timesteps:
                guided = self.guided(state, regions.flip(flip), shots, class_labels, step)
                state = self.schedule.step(guided, step, state).prev_sample
            total += state.clamp(-1, 1).flip(flip)
        return total[:, 0] / config.samples

    def guided(self, state: Tensor, regions: Tensor, shots: Tensor, class_labels: Tensor, step: Tensor) -> Tensor:
        """Guided prediction: (1 + w) * with the class - w * without."""
        steps = step.to(state.device).expand(len(state))
        conditional = self.predict(state, regions, shots, class_labels + 1, steps)
        if not self.sizes.guidance:
            return conditional
        free = self.predict(state, regions, shots, torch.full_like(class_labels, NO_CLASS), steps)
        return (1 + self.sizes.guidance) * conditional - self.sizes.guidance * free
