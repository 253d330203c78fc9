"""mini-gligen: a text-to-image UNet with gated grounding (GLIGEN in miniature), and without it blendeddiff's base.

Starts from mini-sd-inpaint's UNet without the inputs for mask and masked image, as GLIGEN starts from Stable Diffusion.
Unlike there everything is trained, because the start has never painted without a source. Half of the steps ground the
instance by box and class, the other half leave the grounding layers out, so that both ways of use are learned.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.data import default_collate

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.inpainting import ARCHITECTURE, SCHEDULER, draw_noise, weighted_error
from instsynth_dagster.demo.pretraining.latents import EncodedCrops, Foundations
from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train
from instsynth_dagster.synthesis.generators.gligen import grounding

RECIPE = Recipe(steps=3000, batch_size=32, learning_rate=7e-4, weight_decay=0.01)
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
        steps, noisy, velocity = draw_noise(self._scheduler, latents)
        predicted = self.unet(noisy, steps, hidden, cross_attention_kwargs=kwargs).sample
        return {"loss": weighted_error(predicted, velocity, mask)}


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
    corpus: Corpus,
    foundations: Foundations,
    inpainting: Path,
    *,
    out: Path,
    latents: Path,
    scratch: Path,
    recipe: Recipe = RECIPE,
    seed: int = 2,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train the UNet and write the whole pipeline (fp16) as a `from_pretrained` folder.

    Args:
        inpainting: the folder of mini-sd-inpaint.
        latents: folder for the encoded corpus, shared by trainings.
        scratch: the state of an unfinished training; the same call goes on from there.
    """
    start = UNet2DConditionModel.from_pretrained(inpainting, subfolder="unet", local_files_only=True).float()
    with isolated_random_state():
        torch.manual_seed(content_seed(seed, "grounding"))
        unet = grounded_unet(start)
    scheduler = DDIMScheduler(**SCHEDULER)
    log = train(
        GroundedDenoising(unet, scheduler),
        EncodedCrops(corpus, foundations, latents=latents, count=recipe.steps * recipe.batch_size, seed=seed),
        recipe,
        collate=default_collate,
        seed=seed,
        scratch=scratch,
        device=device,
        progress=progress,
    )
    foundations.save_pipeline(StableDiffusionPipeline, unet, scheduler, out)
    return FitResult(out, log.curve, log.seconds, log.peak_memory)
