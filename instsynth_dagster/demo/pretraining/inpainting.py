"""mini-sd-inpaint: a Stable Diffusion inpainting pipeline in miniature.

A 9-channel UNet (noisy latents, mask, latents of the masked image) learns to paint captioned instances of the corpus
back into the hole they leave. It predicts velocity under a noise schedule with zero terminal SNR (Lin et al. 2024,
"Common Diffusion Noise Schedules and Sample Steps are Flawed"), without which dark and bright prompts come out grey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch import Tensor, nn

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.latents import SCALE, EncodedCrops, Foundations, load_fitting
from instsynth_dagster.demo.pretraining.timed import TimedRecipe, train_within
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state

ARCHITECTURE: dict[str, Any] = {
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (48, 96, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 128,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "steps_offset": 1,
    "clip_sample": False,
}
RECIPE = TimedRecipe(minutes=90, learning_rate=1e-3)
BATCH = 32
"""Crops of the smallest size in a batch."""
SNR_BOUND, LEAST_WEIGHT = 5.0, 0.2
"""Of the loss by noise level: the bound of min-SNR, and a floor, without which the noisiest steps, which decide about
colour and brightness, would not be learned under zero terminal SNR."""
OUTSIDE_WEIGHT = 0.2
"""Weight of a cell that the mask leaves alone: its content is given, painting it teaches little."""


class Denoising(nn.Module):
    """Weighted error of the predicted velocity, mostly inside the hole."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.unet, self._scheduler = unet, scheduler

    def forward(self, latents: Tensor, masked: Tensor, mask: Tensor, hidden: Tensor, **_: Tensor) -> dict[str, Tensor]:
        noisy = draw_noise(self._scheduler, latents)
        predicted = self.unet(torch.cat([noisy.latents, mask, masked], dim=1), noisy.steps, hidden).sample
        return {"loss": weighted_error(predicted, noisy, mask)}


@dataclass(frozen=True)
class Noisy:
    """steps int64 (B,): a random noise level for each image; latents (B, 4, h, w) at that level; velocity (B, 4, h, w)
    to predict; weight float (B,) of the level in the loss."""

    steps: Tensor
    latents: Tensor
    velocity: Tensor
    weight: Tensor


def draw_noise(scheduler: DDIMScheduler, latents: Tensor) -> Noisy:
    """Latents at random noise levels."""
    steps = torch.randint(0, scheduler.config["num_train_timesteps"], (len(latents),), device=latents.device)
    noise = torch.randn_like(latents)
    return Noisy(
        steps,
        scheduler.add_noise(latents, noise, steps),
        scheduler.get_velocity(latents, noise, steps),
        level_weights(scheduler)[steps.cpu()].to(latents.device),
    )


def level_weights(scheduler: DDIMScheduler) -> Tensor:
    """float (T,): min-SNR weights of velocity prediction (Hang et al. 2023), min(SNR, bound) / (SNR + 1), not below
    `LEAST_WEIGHT`; their mean is 1."""
    snr = scheduler.alphas_cumprod / (1 - scheduler.alphas_cumprod)
    weights = (snr.clamp(max=SNR_BOUND) / (snr + 1)).clamp(min=LEAST_WEIGHT)
    return weights / weights.mean()


def weighted_error(predicted: Tensor, noisy: Noisy, mask: Tensor) -> Tensor:
    """Mean squared error of the velocity, weighted by noise level; a cell outside the mask counts `OUTSIDE_WEIGHT`."""
    weights = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * mask
    error = (predicted.float() - noisy.velocity).square().mean(dim=1, keepdim=True)
    return (noisy.weight[:, None, None, None] * weights * error).sum() / weights.sum()


def train_inpainting(
    corpora: Mapping[int, Corpus],
    foundations: Foundations,
    *,
    out: Path,
    latents: Path,
    scratch: Path,
    start: Path | None = None,
    recipe: TimedRecipe = RECIPE,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train the UNet and write the whole pipeline (fp16) as a `from_pretrained` folder.

    Args:
        corpora: the corpus by side.
        latents: folder for the encoded corpus, shared by trainings.
        scratch: the state of an earlier call, from which this one goes on.
        start: a pipeline whose UNet to start from, as far as it fits; random weights otherwise.
    """
    with isolated_random_state():
        torch.manual_seed(content_seed(seed, "unet"))
        unet = UNet2DConditionModel(sample_size=min(corpora) // SCALE, **ARCHITECTURE)
    if start:
        load_fitting(unet, load_unet(start).state_dict())
    scheduler = DDIMScheduler(**SCHEDULER)
    batches = EncodedCrops(corpora, foundations, latents=latents, area=BATCH, seed=seed, device=device)
    result = train_within(
        Denoising(unet, scheduler),
        unet,
        batches,
        recipe,
        out=out,
        scratch=scratch,
        seed=seed,
        device=device,
        progress=progress,
    )
    foundations.save_pipeline(StableDiffusionInpaintPipeline, unet, scheduler, out)
    return result


def load_unet(pipeline: Path) -> UNet2DConditionModel:
    """The UNet of a pipeline's folder, float32."""
    return UNet2DConditionModel.from_pretrained(pipeline, subfolder="unet", local_files_only=True).float()
