"""mini-sd-inpaint: a Stable Diffusion inpainting pipeline in miniature.

A 9-channel UNet (noisy latents, mask, latents of the masked image) learns to paint captioned instances of the corpus
back into the hole they leave. It predicts velocity under a noise schedule with zero terminal SNR (Lin et al. 2024,
"Common Diffusion Noise Schedules and Sample Steps are Flawed"), without which dark and bright prompts come out grey.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.data import default_collate

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.latents import SCALE, EncodedCrops, Foundations
from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train

ARCHITECTURE: dict[str, Any] = {
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (48, 96, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
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
RECIPE = Recipe(steps=9000, batch_size=32, learning_rate=1e-3, weight_decay=0.01)
OUTSIDE_WEIGHT = 0.2
"""Weight of a cell that the mask leaves alone: its content is given, painting it teaches little."""


class Denoising(nn.Module):
    """Mean squared error of the predicted velocity, mostly inside the hole."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.unet, self._scheduler = unet, scheduler

    def forward(self, latents: Tensor, masked: Tensor, mask: Tensor, hidden: Tensor, **_: Tensor) -> dict[str, Tensor]:
        steps, noisy, velocity = draw_noise(self._scheduler, latents)
        predicted = self.unet(torch.cat([noisy, mask, masked], dim=1), steps, hidden).sample
        return {"loss": weighted_error(predicted, velocity, mask)}


def draw_noise(scheduler: DDIMScheduler, latents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A random step for each image, its latents at that noise level, and the velocity to predict."""
    steps = torch.randint(0, scheduler.config["num_train_timesteps"], (len(latents),), device=latents.device)
    noise = torch.randn_like(latents)
    return steps, scheduler.add_noise(latents, noise, steps), scheduler.get_velocity(latents, noise, steps)


def weighted_error(predicted: Tensor, velocity: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error; a cell outside the mask counts `OUTSIDE_WEIGHT`."""
    weights = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * mask
    error = (predicted.float() - velocity).square().mean(dim=1, keepdim=True)
    return (weights * error).sum() / weights.sum()


def train_inpainting(
    corpus: Corpus,
    foundations: Foundations,
    *,
    out: Path,
    latents: Path,
    scratch: Path,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train the UNet and write the whole pipeline (fp16) as a `from_pretrained` folder.

    Args:
        latents: folder for the encoded corpus, shared by trainings.
        scratch: the state of an unfinished training; the same call goes on from there.
    """
    with isolated_random_state():
        torch.manual_seed(content_seed(seed, "unet"))
        side = corpus.images.shape[1] // SCALE
        unet = UNet2DConditionModel(sample_size=side, **ARCHITECTURE)
    scheduler = DDIMScheduler(**SCHEDULER)
    count = recipe.steps * recipe.batch_size
    log = train(
        Denoising(unet, scheduler),
        EncodedCrops(corpus, foundations, latents=latents, count=count, seed=seed),
        recipe,
        collate=default_collate,
        seed=seed,
        scratch=scratch,
        device=device,
        progress=progress,
    )
    foundations.save_pipeline(StableDiffusionInpaintPipeline, unet, scheduler, out)
    return FitResult(out, log.curve, log.seconds, log.peak_memory)
