"""mini-gligen: a text-to-image UNet with gated grounding (GLIGEN in miniature), and without it blendeddiff's base.

Starts from mini-sd-inpaint's UNet without the inputs for mask and masked image, as GLIGEN starts from Stable Diffusion.
Unlike there everything is trained, because the start has never painted without a source. Half of the steps ground the
instance by box and class, the other half leave the grounding layers out, so that both ways of use are learned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from instsynth_dagster.demo.pretraining.cards import link_equal
from instsynth_dagster.demo.pretraining.inpainting import (
    ARCHITECTURE,
    SCHEDULER,
    MiniInpainting,
    draw_noise,
    load_unet,
    weighted_error,
)
from instsynth_dagster.demo.pretraining.latents import Foundations, load_fitting
from instsynth_dagster.demo.pretraining.mini_generator import CardFacts, MiniGenerator
from instsynth_dagster.demo.pretraining.timed import TimedRecipe
from instsynth_dagster.synthesis.generators.gligen import grounding

OBJECT_DROPOUT = 0.1


class GroundedDenoising(nn.Module):
    """Mean squared error of the predicted velocity, mostly on the instance, grounded or not."""

    def __init__(self, unet: diffusers.UNet2DConditionModel, scheduler: diffusers.DDIMScheduler) -> None:
        super().__init__()
        self.unet, self._scheduler = unet, scheduler

    def forward(
        self, latents: Tensor, mask: Tensor, hidden: Tensor, box: Tensor, phrase: Tensor, **_: Tensor
    ) -> dict[str, Tensor]:
        kwargs = None
        if torch.rand(()) < 0.5:
            objects = grounding(box, phrase)
            objects["masks"] = objects["masks"] * (torch.rand(len(box), 1, device=box.device) >= OBJECT_DROPOUT)
            kwargs = {"gligen": objects}
        noisy = draw_noise(self._scheduler, latents)
        predicted = self.unet(noisy.latents, noisy.steps, hidden, cross_attention_kwargs=kwargs).sample
        return {"loss": weighted_error(predicted, noisy, mask)}


def grounded_unet(inpainting: diffusers.UNet2DConditionModel) -> diffusers.UNet2DConditionModel:
    """A 4-channel UNet with new grounding layers, their gates shut, and everything else from an inpainting UNet."""
    own: dict[str, Any] = {"in_channels": 4, "attention_type": "gated", "sample_size": inpainting.config["sample_size"]}
    unet = diffusers.UNet2DConditionModel(**{name: inpainting.config[name] for name in ARCHITECTURE} | own)
    weights = inpainting.state_dict()
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :4]
    missing, unexpected = unet.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(".fuser." in name or name.startswith("position_net.") for name in missing)
    return unet


class MiniGligen(MiniGenerator):
    """mini-gligen, whose checkpoint holds a whole pipeline; autoencoder and text encoder are links to
    mini-sd-inpaint's."""

    name = "mini-gligen"
    kinds = ("gligen", "blendeddiff")
    recipe = TimedRecipe(minutes=30, learning_rate=7e-4)
    batch = MiniInpainting.batch
    seed = 2

    def prepare(self, side: int, inpainting: Path, start: Path | None) -> tuple[nn.Module, nn.Module]:
        unet = grounded_unet(load_unet(inpainting))
        if start:
            load_fitting(unet, load_unet(start).state_dict())
        return unet, GroundedDenoising(unet, diffusers.DDIMScheduler(**SCHEDULER))

    def save(self, network: Any, foundations: Foundations, out: Path, inpainting: Path) -> None:
        foundations.save_pipeline(diffusers.StableDiffusionPipeline, network, diffusers.DDIMScheduler(**SCHEDULER), out)
        for part in ("vae", "text_encoder"):  # the same bytes: kept once
            link_equal(out / part, inpainting / part)

    def card(self, facts: CardFacts) -> str:
        return f"""# mini-gligen

A small GLIGEN (diffusers `UNet2DConditionModel` with gated grounding, 4 channels) with mini-sd-inpaint's autoencoder
and text encoder. With grounding it paints a class where its box says (generator `gligen`); without, it is a plain
text-to-image model (base of `blendeddiff`).

- **Data**: {facts.data} with boxes of rendered scenes; other seeds than any demo city.
- **Training**: from mini-sd-inpaint's UNet, {facts.training}; half of the steps grounded.
- **Measured**, `gligen`: {facts.judged["gligen"]}
- **Measured**, `blendeddiff`: {facts.judged["blendeddiff"]}
"""
