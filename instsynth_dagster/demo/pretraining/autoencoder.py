"""The mini autoencoder: images to latents a quarter as wide, in Stable Diffusion's place for its VAE.

A deterministic AutoencoderTiny trained alone (mean absolute and squared error), not distilled; on procedural crops it
reaches the quality of an AutoencoderKL of its size in a fraction of the time on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.models.quiet import quiet_diffusers
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train

PATCH = 48
ARCHITECTURE: dict[str, Any] = {
    "encoder_block_out_channels": (32, 32, 32),
    "decoder_block_out_channels": (32, 32, 32),
    "num_encoder_blocks": (0, 1, 3),
    "num_decoder_blocks": (3, 2, 1),
    "latent_channels": 4,
    "upsampling_scaling_factor": 2,
}
"""Downsamples by 4."""
RECIPE = Recipe(steps=4000, batch_size=32, learning_rate=3e-3, weight_decay=0.0)


class Patches(Dataset):
    """Patch number i, uint8 (3, PATCH, PATCH), as a pure function of (seed, i)."""

    def __init__(self, corpus: Corpus, count: int, seed: int) -> None:
        self._corpus, self._count, self._seed = corpus, count, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = np.random.default_rng(content_seed(self._seed, "patch", index))
        image = self._corpus.images[generator.integers(len(self._corpus))]
        y, x = generator.integers(0, image.shape[0] - PATCH + 1, 2)
        patch = image[y : y + PATCH, x : x + PATCH]
        if generator.random() < 0.5:
            patch = patch[:, ::-1]
        return {"pixels": torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))}


class Reconstruction(nn.Module):
    """Error of encoding and decoding; latents are kept near unit variance so that they suit a diffusion model."""

    def __init__(self, autoencoder: diffusers.AutoencoderTiny) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        images = (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)  # 2x faster on a CPU
        latents = self.autoencoder.encode(images).latents
        error = (self.autoencoder.decode(latents).sample - images).float()
        spread = latents.float().var(dim=(0, 2, 3))
        centre = latents.float().mean(dim=(0, 2, 3))
        tidy = (spread - 1).square().mean() + centre.square().mean()
        # the squared error is what PSNR counts, the absolute one keeps edges; 8 brings the two to one scale
        return {"loss": error.abs().mean() + 8 * error.square().mean() + 0.01 * tidy}


def train_autoencoder(
    corpus: Corpus,
    *,
    out: Path,
    scratch: Path,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    progress: Progress | None = None,
) -> FitResult:
    """Train the autoencoder and write it as a `from_pretrained` folder, fp16, scaled to unit variance."""
    with isolated_random_state():
        torch.manual_seed(content_seed(seed, "autoencoder"))
        autoencoder = diffusers.AutoencoderTiny(**ARCHITECTURE)
    log = train(
        Reconstruction(autoencoder),
        Patches(corpus, recipe.steps * recipe.batch_size, seed),
        recipe,
        collate=default_collate,
        seed=seed,
        scratch=scratch,
        device="cpu",
        progress=progress,
    )
    autoencoder.eval()
    autoencoder.register_to_config(scaling_factor=1 / float(encode(autoencoder, corpus.images[:512]).std()))
    autoencoder.half().save_pretrained(out)
    return FitResult(out, log.curve, log.seconds, log.peak_memory)


@torch.inference_mode()
def encode(
    autoencoder: diffusers.AutoencoderTiny,
    images: np.ndarray,
    holes: np.ndarray | None = None,
    batch_size: int = 64,
    device: str = "cpu",
) -> Tensor:
    """Latents float32 (N, 4, S/4, S/4) times the scaling factor, as an inpainting pipeline makes them.

    Args:
        images: uint8 (N, S, S, 3).
        holes: bool (N, S, S); there the image is grey.
    """
    latents = []
    autoencoder.to(device)
    for start in range(0, len(images), batch_size):
        batch = torch.from_numpy(np.ascontiguousarray(images[start : start + batch_size])).permute(0, 3, 1, 2)
        pixels = batch.float() / 127.5 - 1
        if holes is not None:
            pixels = pixels * ~torch.from_numpy(np.ascontiguousarray(holes[start : start + batch_size]))[:, None]
        latents.append(autoencoder.encode(pixels.to(device)).latents.cpu())
    autoencoder.to("cpu")
    return torch.cat(latents) * (autoencoder.config["scaling_factor"] or 1.0)


@torch.inference_mode()
def measure_reconstruction(folder: Path, corpus: Corpus) -> dict[str, float]:
    """PSNR in dB over all crops, and the error of their instances' mean colours in grey levels (RMS of channels)."""
    with quiet_diffusers():
        autoencoder = diffusers.AutoencoderTiny.from_pretrained(folder, local_files_only=True).float().eval()
    squares, colors = [], []
    for start in range(0, len(corpus), 64):
        part = corpus.take(slice(start, start + 64))
        images = torch.from_numpy(np.ascontiguousarray(part.images)).permute(0, 3, 1, 2).float()
        decoded = autoencoder.decode(autoencoder.encode(images / 127.5 - 1).latents).sample
        error = ((decoded + 1) * 127.5).clamp(0, 255) - images
        squares.append(error.square().mean(dim=(1, 2, 3)))
        masks = torch.from_numpy(np.ascontiguousarray(part.masks))[:, None].float()
        colors.append(((error * masks).sum(dim=(2, 3)) / masks.sum(dim=(2, 3)).clamp(min=1)).square())
    return {
        "psnr": float(10 * torch.log10(255**2 / torch.cat(squares).mean())),
        "color_error": float(torch.cat(colors).mean().sqrt()),
    }
