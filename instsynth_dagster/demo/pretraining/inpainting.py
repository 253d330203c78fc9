"""mini-sd-inpaint: a Stable Diffusion inpainting pipeline in miniature.

A 9-channel UNet (noisy latents, mask, latents of the masked image) learns to paint captioned instances of the corpus
back into the hole they leave. It predicts velocity under a noise schedule with zero terminal SNR (Lin et al. 2024,
"Common Diffusion Noise Schedules and Sample Steps are Flawed"), without which dark and bright prompts come out grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from instsynth_dagster.demo.pretraining import autoencoder
from instsynth_dagster.demo.pretraining.latents import SCALE, Foundations, load_fitting
from instsynth_dagster.demo.pretraining.mini_generator import CardFacts, MiniGenerator
from instsynth_dagster.demo.pretraining.timed import TimedRecipe

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
SNR_BOUND, LEAST_WEIGHT = 5.0, 0.2
"""Of the loss by noise level: the bound of min-SNR, and a floor, without which the noisiest steps, which decide about
colour and brightness, would not be learned under zero terminal SNR."""
OUTSIDE_WEIGHT = 0.2
"""Weight of a cell that the mask leaves alone: its content is given, painting it teaches little."""


class Denoising(nn.Module):
    """Weighted error of the predicted velocity, mostly inside the hole."""

    def __init__(self, unet: diffusers.UNet2DConditionModel, scheduler: diffusers.DDIMScheduler) -> None:
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


def draw_noise(scheduler: diffusers.DDIMScheduler, latents: Tensor) -> Noisy:
    """Latents at random noise levels."""
    steps = torch.randint(0, scheduler.config["num_train_timesteps"], (len(latents),), device=latents.device)
    noise = torch.randn_like(latents)
    return Noisy(
        steps,
        scheduler.add_noise(latents, noise, steps),
        scheduler.get_velocity(latents, noise, steps),
        level_weights(scheduler)[steps.cpu()].to(latents.device),
    )


def level_weights(scheduler: diffusers.DDIMScheduler) -> Tensor:
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


class MiniInpainting(MiniGenerator):
    """mini-sd-inpaint, whose checkpoint holds a whole pipeline."""

    name = "mini-sd-inpaint"
    kinds = ("diffinpainting",)
    recipe = TimedRecipe(minutes=90, learning_rate=1e-3)
    batch = 32
    seed = 0

    def prepare(self, side: int, inpainting: Path, start: Path | None) -> tuple[nn.Module, nn.Module]:
        unet = diffusers.UNet2DConditionModel(sample_size=side // SCALE, **ARCHITECTURE)
        if start:
            load_fitting(unet, load_unet(start).state_dict())
        return unet, Denoising(unet, diffusers.DDIMScheduler(**SCHEDULER))

    def save(self, network: Any, foundations: Foundations, out: Path, inpainting: Path) -> None:
        foundations.save_pipeline(
            diffusers.StableDiffusionInpaintPipeline, network, diffusers.DDIMScheduler(**SCHEDULER), out
        )

    def card(self, facts: CardFacts) -> str:
        quality = autoencoder.measure_reconstruction(facts.folder / "vae", facts.held_out[min(facts.held_out)])
        return f"""# mini-sd-inpaint

A small Stable Diffusion inpainting pipeline (diffusers `StableDiffusionInpaintPipeline`): AutoencoderTiny with 4 latent
channels at a quarter of the width, a 9-channel UNet, mini-clip's text encoder. It repaints an instance of a procedural
street inside its mask, with the class and colour of a prompt such as "a photo of a red car".

- **Data**: {facts.data} with masks of rendered scenes; other seeds than any demo city.
- **Training**: autoencoder {autoencoder.RECIPE.steps} steps of {autoencoder.RECIPE.batch_size} patches, then its
  decoder alone for sharpness; UNet {facts.training}.
- **Measured** on held-out crops: autoencoder {quality["psnr"]:.1f} dB PSNR, mean colour of an instance off by
  {quality["color_error"]:.1f} grey levels. {facts.judged["diffinpainting"]}
"""


def load_unet(pipeline: Path) -> diffusers.UNet2DConditionModel:
    """The UNet of a pipeline's folder, float32."""
    return diffusers.UNet2DConditionModel.from_pretrained(pipeline, subfolder="unet", local_files_only=True).float()
