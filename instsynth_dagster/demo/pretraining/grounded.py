"""mini-gligen: a text-to-image UNet with gated grounding (GLIGEN in miniature), and without it blendeddiff's base.

Starts from mini-sd-inpaint's UNet without the inputs for mask and masked image, as GLIGEN starts from Stable Diffusion.
Unlike there everything is trained, because the start has never painted without a source. Half of the steps ground the
instance by box and class, the other half leave the grounding layers out, so that both ways of use are learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.inpainting import (
    ARCHITECTURE,
    BATCH,
    SCHEDULER,
    draw_noise,
    load_unet,
    weighted_error,
)
from instsynth_dagster.demo.pretraining.latents import EncodedCrops, Foundations, load_fitting
from instsynth_dagster.demo.pretraining.timed import TimedRecipe, train_within
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state
from instsynth_dagster.synthesis.generators.gligen import grounding

RECIPE = TimedRecipe(minutes=30, learning_rate=7e-4)
OBJECT_DROPOUT = 0.1


class GroundedDenoising(nn.Module):
    """Mean squared error of the predicted velocity, mostly on the instance, grounded or not."""

    def __init__(self, unet: UNet2DConditionModel, scheduler: DDIMScheduler) -> None:
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


def grounded_unet(inpainting: UNet2DConditionModel) -> UNet2DConditionModel:
    """A 4-channel UNet with new grounding layers, their gates shut, and everything else from an inpainting UNet."""
    unet = UNet2DConditionModel(
        **ARCHITECTURE | {"in_channels": 4}, sample_size=inpainting.config["sample_size"], attention_type="gated"
    )
    weights = inpainting.state_dict()
    weights["conv_in.weight"] = weights["conv_in.weight"][:, :4]
    missing, unexpected = unet.load_state_dict(weights, strict=False)
    assert not unexpected
    assert all(".fuser." in name or name.startswith("position_net.") for name in missing)
    return unet


def train_grounded(
    corpora: Mapping[int, Corpus],
    foundations: Foundations,
    inpainting: Path,
    *,
    out: Path,
    latents: Path,
    scratch: Path,
    start: Path | None = None,
    recipe: TimedRecipe = RECIPE,
    seed: int = 2,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train the UNet and write the whole pipeline (fp16) as a `from_pretrained` folder.

    Args:
        corpora: the corpus by side.
        inpainting: the folder of mini-sd-inpaint.
        latents: folder for the encoded corpus, shared by trainings.
        scratch: the state of an earlier call, from which this one goes on.
        start: a grounded pipeline whose UNet to start from, as far as it fits; mini-sd-inpaint's otherwise.
    """
    with isolated_random_state():
        torch.manual_seed(content_seed(seed, "grounding"))
        unet = grounded_unet(load_unet(inpainting))
    if start:
        load_fitting(unet, load_unet(start).state_dict())
    scheduler = DDIMScheduler(**SCHEDULER)
    batches = EncodedCrops(corpora, foundations, latents=latents, area=BATCH, seed=seed, device=device)
    result = train_within(
        GroundedDenoising(unet, scheduler),
        unet,
        batches,
        recipe,
        out=out,
        scratch=scratch,
        seed=seed,
        device=device,
        progress=progress,
    )
    foundations.save_pipeline(StableDiffusionPipeline, unet, scheduler, out)
    return result
