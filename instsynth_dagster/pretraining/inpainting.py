"""mini-sd-inpaint: a Stable Diffusion inpainting pipeline in miniature.

A 9-channel UNet (noisy latents, mask, latents of the masked image) learns to paint captioned instances of the corpus
back into the hole they leave. It predicts velocity under a noise schedule with zero terminal SNR (Lin et al. 2024,
"Common Diffusion Noise Schedules and Sample Steps are Flawed"), without which dark and bright prompts come out grey.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from scipy import ndimage
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate
from transformers import CLIPTextModel, CLIPTokenizer

from instsynth_dagster.pretraining.autoencoder import encode
from instsynth_dagster.pretraining.clip import claims, draw_caption
from instsynth_dagster.pretraining.corpus import Corpus
from instsynth_dagster.pretraining.recipe import Recipe
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.base import FitResult, Progress
from instsynth_dagster.segmenters.training import isolated_random_state, quiet_transformers, train

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
CAPTION_DROPOUT = 0.1
OUTSIDE_WEIGHT = 0.2
"""Weight of a cell that the mask leaves alone: its content is given, painting it teaches little."""
_SCALE = 4


class Holes(Dataset):
    """Training example number i as a pure function of (seed, i): latents, hole and caption of a crop.

    Latents of image and masked image are encoded once and kept in `scratch`.
    """

    def __init__(
        self,
        corpus: Corpus,
        autoencoder: AutoencoderTiny,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        *,
        scratch: Path,
        count: int,
        seed: int,
    ) -> None:
        self._latents, self._masked, self._masks = _encode_holes(corpus, autoencoder, scratch, seed)
        self._text_encoder, self._tokenizer = text_encoder.eval(), tokenizer
        self._claims, self._count, self._seed = claims(corpus), count, seed
        self._hidden: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = np.random.default_rng(content_seed(self._seed, "hole", index))
        chosen = generator.integers(len(self._claims))
        text, _ = draw_caption(self._claims[chosen], generator)
        return {
            "latents": torch.from_numpy(self._latents[chosen].astype(np.float32)),
            "masked": torch.from_numpy(self._masked[chosen].astype(np.float32)),
            "mask": torch.from_numpy(self._masks[chosen].astype(np.float32))[None],
            "hidden": self._embed("" if generator.random() < CAPTION_DROPOUT else text),
        }

    @torch.inference_mode()
    def _embed(self, text: str) -> Tensor:
        if text not in self._hidden:
            tokens = self._tokenizer(text, padding="max_length", return_tensors="pt")
            self._hidden[text] = self._text_encoder(tokens["input_ids"]).last_hidden_state[0].float().clone()
        return self._hidden[text]


def _encode_holes(corpus: Corpus, autoencoder: AutoencoderTiny, scratch: Path, seed: int) -> list[np.ndarray]:
    """float16 latents of images and of masked images, and bool masks at latent size.

    A hole is the instance, sometimes grown by a few pixels.
    """
    paths = [scratch / f"{name}.npy" for name in ("latents", "masked", "masks")]
    if not paths[-1].exists():
        scratch.mkdir(parents=True, exist_ok=True)
        latents, masked, masks = [], [], []
        for start in range(0, len(corpus), 512):
            part = corpus.take(slice(start, start + 512))
            holes = np.stack([_grow(mask, content_seed(seed, start + i)) for i, mask in enumerate(part.masks)])
            images = np.asarray(part.images)
            latents.append(encode(autoencoder, images).numpy().astype(np.float16))
            masked.append(encode(autoencoder, images, holes).numpy().astype(np.float16))
            masks.append(holes[:, ::_SCALE, ::_SCALE])
        for path, arrays in zip(paths, (latents, masked, masks), strict=True):
            np.save(path, np.concatenate(arrays))
    return [np.load(path, mmap_mode="r") for path in paths]


def _grow(mask: np.ndarray, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    pixels = int(generator.integers(1, 5)) if generator.random() < 0.4 else 0
    return ndimage.binary_dilation(mask, iterations=pixels) if pixels else mask


class Denoising(nn.Module):
    """Mean squared error of the predicted velocity, mostly inside the hole."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.unet, self._scheduler = unet, scheduler

    def forward(self, latents: Tensor, masked: Tensor, mask: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        steps = torch.randint(0, self._scheduler.config["num_train_timesteps"], (len(latents),), device=latents.device)
        noise = torch.randn_like(latents)
        noisy = self._scheduler.add_noise(latents, noise, steps)
        velocity = self._scheduler.get_velocity(latents, noise, steps)
        predicted = self.unet(torch.cat([noisy, mask, masked], dim=1), steps, hidden).sample
        weights = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * mask
        error = (predicted.float() - velocity).square().mean(dim=1, keepdim=True)
        return {"loss": (weights * error).sum() / weights.sum()}


def train_inpainting(
    corpus: Corpus,
    autoencoder_folder: Path,
    clip_folder: Path,
    *,
    out: Path,
    scratch: Path,
    recipe: Recipe = RECIPE,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train the UNet and write the whole pipeline (fp16) as a `from_pretrained` folder.

    Args:
        autoencoder_folder, clip_folder: what `train_autoencoder` and `train_clip` wrote.
        scratch: latents and the state of an unfinished training; the same call goes on from there.
    """
    autoencoder = AutoencoderTiny.from_pretrained(autoencoder_folder, local_files_only=True).float().eval()
    with quiet_transformers():
        text_encoder = CLIPTextModel.from_pretrained(clip_folder, local_files_only=True, dtype=torch.float32)
        tokenizer = CLIPTokenizer.from_pretrained(clip_folder, local_files_only=True)
    with isolated_random_state():
        torch.manual_seed(content_seed(seed, "unet"))
        side = corpus.images.shape[1] // _SCALE
        unet = UNet2DConditionModel(sample_size=side, **ARCHITECTURE)
    scheduler = DDIMScheduler(**SCHEDULER)
    count = recipe.steps * recipe.batch_size
    log = train(
        Denoising(unet, scheduler),
        Holes(corpus, autoencoder, text_encoder, tokenizer, scratch=scratch, count=count, seed=seed),
        recipe,
        collate=default_collate,
        seed=seed,
        scratch=scratch,
        device=device,
        progress=progress,
    )
    StableDiffusionInpaintPipeline(
        vae=autoencoder.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        unet=unet.cpu().eval().half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(out)
    return FitResult(out, log.curve, log.seconds, log.peak_memory)
