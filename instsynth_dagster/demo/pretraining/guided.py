"""mini-controlnet: edges of the source for mini-sd-inpaint (ControlNet in miniature, Zhang et al. 2023).

A copy of the UNet's encoder reads noisy latents and the edges of the instance, and adds what it makes of them to the
UNet's skip connections through convolutions that start at zero. The UNet itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.inpainting import (
    SCHEDULER,
    draw_noise,
    load_unet,
    weighted_error,
)
from instsynth_dagster.demo.pretraining.latents import SCALE, EncodedCrops, Foundations
from instsynth_dagster.demo.pretraining.timed import TimedRecipe, train_within
from instsynth_dagster.models.quiet import quiet_diffusers
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state
from instsynth_dagster.synthesis.generators.conditions import soft_edges

RECIPE = TimedRecipe(minutes=40, learning_rate=1e-3, average=0.998)
BATCH = 16
"""Crops of the smallest size in a batch; what there is to learn is simpler than painting, so steps count for more."""
CONDITION_CHANNELS = (16, 32, 64)
"""Two halvings: from pixels to latent cells."""
_SHARED = (
    "block_out_channels",
    "layers_per_block",
    "down_block_types",
    "cross_attention_dim",
    "attention_head_dim",
    "norm_num_groups",
)
"""What a ControlNet's configuration has in common with its UNet's."""
_OWN = "controlnet_"
"""Beginning of the names of weights that a UNet's encoder does not have."""


class GuidedDenoising(nn.Module):
    """Weighted error of the velocity that the UNet predicts with the ControlNet's help."""

    def __init__(self, unet: UNet2DConditionModel, controlnet: ControlNetModel, scheduler: DDIMScheduler) -> None:
        super().__init__()
        self.unet, self.controlnet, self._scheduler = unet.requires_grad_(False), controlnet, scheduler

    def forward(
        self, latents: Tensor, masked: Tensor, mask: Tensor, hidden: Tensor, edges: Tensor, **_: Tensor
    ) -> dict[str, Tensor]:
        noisy = draw_noise(self._scheduler, latents)
        down, middle = self.controlnet(noisy.latents, noisy.steps, hidden, edges, return_dict=False)
        predicted = self.unet(
            torch.cat([noisy.latents, mask, masked], dim=1),
            noisy.steps,
            hidden,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return {"loss": weighted_error(predicted, noisy, mask)}


class GuidedCrops:
    """Batches of `EncodedCrops` with "edges", float32 (B, 3, S, S) in 0..1, of the instances themselves: a hole that is
    larger than its instance has no edge of its own."""

    def __init__(self, corpora: Mapping[int, Corpus], crops: EncodedCrops) -> None:
        self._corpora, self._crops = corpora, crops

    def __call__(self, number: int) -> dict[str, Tensor]:
        batch = self._crops(number)
        corpus = self._corpora[SCALE * batch["latents"].shape[-1]]
        edges = [_edges(corpus, index) for index in batch["index"].tolist()]
        return batch | {"edges": torch.from_numpy(np.stack(edges)).float()[:, None].repeat(1, 3, 1, 1) / 255}


def _edges(corpus: Corpus, index: int) -> np.ndarray:
    crop = index % len(corpus)
    edges = soft_edges(corpus.images[crop], np.asarray(corpus.masks[crop]))
    return np.ascontiguousarray(edges[:, ::-1]) if index >= len(corpus) else edges


def fresh_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet of 4 channels for a mini UNet, of whose encoder it is a copy; it changes nothing yet.

    `ControlNetModel.from_unet` cannot make it, because the input of an inpainting UNet is another.
    """
    controlnet = ControlNetModel(
        in_channels=4,
        conditioning_embedding_out_channels=CONDITION_CHANNELS,
        **{name: unet.config[name] for name in _SHARED},
    )
    own = controlnet.state_dict()
    weights = {name: value for name, value in unet.state_dict().items() if name in own}
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :4]
    missing, _ = controlnet.load_state_dict(weights, strict=False)
    assert all(name.startswith(_OWN) for name in missing)
    return controlnet


def load_controlnet(folder: Path) -> ControlNetModel:
    """A ControlNet's folder, float32."""
    with quiet_diffusers():
        return ControlNetModel.from_pretrained(folder, local_files_only=True).float()


def train_guided(
    corpora: Mapping[int, Corpus],
    foundations: Foundations,
    inpainting: Path,
    *,
    out: Path,
    latents: Path,
    scratch: Path,
    start: Path | None = None,
    recipe: TimedRecipe = RECIPE,
    seed: int = 3,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train the ControlNet and write it (fp16) as a `from_pretrained` folder; it holds nothing of mini-sd-inpaint.

    Args:
        corpora: the corpus by side.
        inpainting: the folder of mini-sd-inpaint.
        latents: folder for the encoded corpus, shared by trainings.
        scratch: the state of an earlier call, from which this one goes on.
        start: a ControlNet to start from; a copy of mini-sd-inpaint's encoder otherwise.
    """
    unet = load_unet(inpainting)
    with isolated_random_state():
        torch.manual_seed(content_seed(seed, "controlnet"))
        controlnet = load_controlnet(start) if start else fresh_controlnet(unet)
    crops = EncodedCrops(corpora, foundations, latents=latents, area=BATCH, seed=seed, device=device)
    result = train_within(
        GuidedDenoising(unet, controlnet, DDIMScheduler(**SCHEDULER)),
        controlnet,
        GuidedCrops(corpora, crops),
        recipe,
        out=out,
        scratch=scratch,
        seed=seed,
        device=device,
        progress=progress,
    )
    controlnet.cpu().eval().half().save_pretrained(out)
    return result
