"""A sharper decoder for the mini autoencoder, with the encoder and thus all latents as they were.

Mean errors alone make a decoder blur what it is not sure of. Here it also answers for the gradients of the picture, and
for how strong they are in each neighbourhood, which a blurred picture gets wrong even where it cannot know the details.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instsynth_dagster.demo.pretraining.autoencoder import Patches
from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.timed import TimedRecipe, train_within
from instsynth_dagster.segmenters.contract import FitResult, Progress

RECIPE = TimedRecipe(minutes=20, learning_rate=1e-3, weight_decay=0.0, average=0.999)
BATCH = 32
_NEIGHBOURHOOD = 8
"""Pixels on a side over which the strength of gradients is compared."""


class Sharpening(nn.Module):
    """Error of a decoded picture, of its gradients, and of their strength in each neighbourhood."""

    def __init__(self, autoencoder: diffusers.AutoencoderTiny) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        images = (pixels.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = self.autoencoder.encode(images).latents
        decoded = self.autoencoder.decode(latents).sample.float()
        ours, theirs = gradients(decoded), gradients(images)
        strength = [F.avg_pool2d(part.abs(), _NEIGHBOURHOOD, stride=_NEIGHBOURHOOD // 2) for part in (ours, theirs)]
        error = decoded - images
        return {
            "loss": error.abs().mean()
            + 4 * error.square().mean()
            + (ours - theirs).abs().mean()
            + 2 * (strength[0] - strength[1]).abs().mean()
        }


def gradients(images: Tensor) -> Tensor:
    """Differences to the right and to the lower neighbour: (B, C, H, W) -> (B, 2 C, H - 1, W - 1)."""
    corner = images[..., :-1, :-1]
    return torch.cat([images[..., :-1, 1:] - corner, images[..., 1:, :-1] - corner], dim=1)


def train_decoder(
    corpus: Corpus,
    autoencoder: Path,
    *,
    out: Path,
    scratch: Path,
    recipe: TimedRecipe = RECIPE,
    seed: int = 3,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Sharpen the decoder of a folder's autoencoder and write the whole (fp16) as a `from_pretrained` folder."""
    model = diffusers.AutoencoderTiny.from_pretrained(autoencoder, local_files_only=True).float()
    model.encoder.requires_grad_(False)
    result = train_within(
        Sharpening(model),
        model.decoder,
        _batches(corpus, seed),
        recipe,
        out=out,
        scratch=scratch,
        seed=seed,
        device=device,
        progress=progress,
    )
    model.cpu().eval().half().save_pretrained(out)
    return result


def _batches(corpus: Corpus, seed: int) -> Callable[[int], dict[str, Tensor]]:
    patches = Patches(corpus, np.iinfo(np.int64).max, seed)

    def batch(number: int) -> dict[str, Tensor]:
        items = [patches[number * BATCH + index]["pixels"] for index in range(BATCH)]
        return {"pixels": torch.stack(items)}

    return batch
