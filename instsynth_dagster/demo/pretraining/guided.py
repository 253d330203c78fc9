"""mini-controlnet: edges of the source for mini-sd-inpaint (ControlNet in miniature, Zhang et al. 2023).

A copy of the UNet's encoder reads noisy latents and the edges of the instance, and adds what it makes of them to the
UNet's skip connections through convolutions that start at zero. The UNet itself stays as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor, nn

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.inpainting import SCHEDULER, draw_noise, load_unet, weighted_error
from instsynth_dagster.demo.pretraining.latents import SCALE, EncodedCrops, Foundations
from instsynth_dagster.demo.pretraining.mini_generator import CardFacts, Corpora, MiniGenerator
from instsynth_dagster.demo.pretraining.timed import TimedRecipe
from instsynth_dagster.models.quiet import quiet_diffusers
from instsynth_dagster.synthesis.generators.conditions import soft_edges

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

    def __init__(
        self,
        unet: diffusers.UNet2DConditionModel,
        controlnet: diffusers.ControlNetModel,
        scheduler: diffusers.DDIMScheduler,
    ) -> None:
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

    def __init__(self, corpora: Corpora, crops: EncodedCrops) -> None:
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


def fresh_controlnet(unet: diffusers.UNet2DConditionModel) -> diffusers.ControlNetModel:
    """A ControlNet of 4 channels for a mini UNet, of whose encoder it is a copy; it changes nothing yet.

    `ControlNetModel.from_unet` cannot make it, because the input of an inpainting UNet is another.
    """
    controlnet = diffusers.ControlNetModel(
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


def load_controlnet(folder: Path) -> diffusers.ControlNetModel:
    """A ControlNet's folder, float32."""
    with quiet_diffusers():
        return diffusers.ControlNetModel.from_pretrained(folder, local_files_only=True).float()


class MiniControlNet(MiniGenerator):
    """mini-controlnet, whose checkpoint holds nothing of mini-sd-inpaint, without which it cannot paint."""

    name = "mini-controlnet"
    kinds = ("controlnet_inpaint",)
    recipe = TimedRecipe(minutes=40, learning_rate=1e-3, average=0.998)
    batch = 16  # what there is to learn is simpler than painting, so steps count for more
    seed = 3

    def prepare(self, side: int, inpainting: Path, start: Path | None) -> tuple[nn.Module, nn.Module]:
        unet = load_unet(inpainting)
        controlnet = load_controlnet(start) if start else fresh_controlnet(unet)
        return controlnet, GuidedDenoising(unet, controlnet, diffusers.DDIMScheduler(**SCHEDULER))

    def batches(self, corpora: Corpora, crops: EncodedCrops) -> GuidedCrops:
        return GuidedCrops(corpora, crops)

    def save(self, network: Any, foundations: Foundations, out: Path, inpainting: Path) -> None:
        network.half().save_pretrained(out)

    def settings(self, folder: Path, inpainting: Path) -> dict[str, str]:
        return {"model": str(inpainting), "controlnet": str(folder)}

    def card(self, facts: CardFacts) -> str:
        return f"""# mini-controlnet

A small ControlNet (diffusers `ControlNetModel`) for mini-sd-inpaint, without which it paints nothing: it is shown the
edges of an instance (Canny inside the mask, and the mask's outline) and keeps its structure under another prompt.

- **Data**: {facts.data} with masks of rendered scenes; other seeds than any demo city.
- **Training**: from mini-sd-inpaint's encoder, {facts.training}.
- **Measured**: {facts.judged["controlnet_inpaint"]}
"""
