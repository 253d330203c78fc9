"""`gligen`: grounded inpainting (Li et al. 2023), with the true mask of the instance and reproducible seeds.

The sampling loop is this project's, on the components of a GLIGEN checkpoint: diffusers' pipeline derives the mask from
boxes, draws noise from the global generator and is deprecated. The phrase is the class, its box is that of the whole
instance. Before every call of the UNet, the pixels outside the mask are replaced by the source at the same noise level.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.fit import no_grounding
from instsynth_dagster.synthesis.generators.kinds import GligenSettings
from instsynth_dagster.synthesis.generators.pipeline import to_pixels
from instsynth_dagster.synthesis.generators.stable_diffusion import StableDiffusionGenerator

_MAX_OBJECTS = 30
"""Slots for grounded objects that GLIGEN was trained with."""


class Gligen(StableDiffusionGenerator):
    """A generator with a GLIGEN checkpoint, of 9 channels (inpainting) or 4 (generation)."""

    def __init__(self, name: str, settings: GeneratorSettings, device: str) -> None:
        # not StableDiffusionGLIGENPipeline: only the components are needed, and that class is deprecated
        super().__init__(name, settings, device, lambda _: diffusers.StableDiffusionPipeline)
        if getattr(self._pipeline.unet, "position_net", None) is None:
            raise CheckpointError(no_grounding(name))
        self._phrases: dict[str, Tensor] = {}

    def _paint(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        prompts: Sequence[str],
        subjects: Sequence[str],
        seeds: Sequence[int],
    ) -> np.ndarray:
        settings, pipeline = self._settings, self._pipeline
        assert isinstance(settings, GligenSettings)
        scheduler = copy.deepcopy(pipeline.scheduler)
        scheduler.set_timesteps(settings.steps, device=self._device)
        source = self._latents(images)
        keep = 1 - self._cells(masks).to(source)
        noise = randn_tensor(source.shape, self._random(seeds), source.device, source.dtype)
        latents = noise * scheduler.init_noise_sigma
        guided = settings.guidance > 1
        (hidden,) = self._embed(prompts)
        if guided:
            (negative,) = self._embed([settings.negative_prompt or ""])
            hidden = torch.cat([negative.expand_as(hidden), hidden])
        objects = self._objects(masks, subjects, guided)
        extra = torch.cat([source * keep, keep], dim=1) if pipeline.unet.config.in_channels > source.shape[1] else None
        grounded = round(settings.grounded_steps * len(scheduler.timesteps))
        for step, time in enumerate(scheduler.timesteps):
            known = scheduler.add_noise(source, noise, time.expand(len(source)))
            latents = keep * known + (1 - keep) * latents
            predicted = self._denoise(scheduler, latents, time, hidden, objects if step < grounded else None, extra)
            latents = scheduler.step(predicted, time, latents).prev_sample
        latents = keep * source + (1 - keep) * latents
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
        return (decoded.float() / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()

    def _denoise(
        self, scheduler: Any, latents: Tensor, time: Tensor, hidden: Tensor, objects: Any, extra: Tensor | None
    ) -> Tensor:
        """The guided prediction at one step; without `objects` the UNet skips its grounding layers."""
        copies = len(hidden) // len(latents)
        inputs = scheduler.scale_model_input(torch.cat([latents] * copies), time)
        if extra is not None:
            inputs = torch.cat([inputs, torch.cat([extra] * copies)], dim=1)
        kwargs = {"gligen": dict(objects)} if objects else None
        predicted = self._pipeline.unet(inputs, time, hidden, cross_attention_kwargs=kwargs).sample
        if copies == 1:
            return predicted
        without, towards = predicted.chunk(2)
        return without + self._settings.guidance * (towards - without)

    def _latents(self, images: np.ndarray) -> Tensor:
        """Latents of the sources: the mean of the posterior, so that no noise is drawn here."""
        vae = self._pipeline.vae
        encoded = vae.encode((2 * to_pixels(images) - 1).to(vae.device, vae.dtype))
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return latents * vae.config.scaling_factor

    def _objects(self, masks: np.ndarray, subjects: Sequence[str], guided: bool) -> dict[str, Tensor]:
        """Grounding arguments: the whole instance as one box, with its class as phrase."""
        boxes = torch.tensor([mask_box(mask) for mask in masks]) / masks.shape[1]
        return grounding(boxes, torch.stack([self._phrase(text) for text in subjects]), guided)

    def _phrase(self, text: str) -> Tensor:
        """Pooled text feature (D,) of a phrase."""
        if text not in self._phrases:
            tokens = self._pipeline.tokenizer(text, return_tensors="pt").to(self._device)
            with self._with_text_encoders():
                self._phrases[text] = self._pipeline.text_encoder(**tokens).pooler_output[0]
        return self._phrases[text].to(self._pipeline.unet.dtype)


def grounding(boxes: Tensor, phrases: Tensor, guided: bool = False) -> dict[str, Tensor]:
    """Arguments of GLIGEN's position net for one object in each image, in the thirty slots that it was trained with.

    Args:
        boxes: float (N, 4) xyxy in 0..1.
        phrases: float (N, D) features.
        guided: whether a half without objects comes first, for classifier-free guidance.
    """
    count = len(boxes)
    arguments = {
        "boxes": torch.zeros(count, _MAX_OBJECTS, 4),
        "positive_embeddings": torch.zeros(count, _MAX_OBJECTS, phrases.shape[1]),
        "masks": torch.zeros(count, _MAX_OBJECTS),
    }
    arguments = {name: part.to(phrases) for name, part in arguments.items()}
    arguments["boxes"][:, 0], arguments["positive_embeddings"][:, 0] = boxes.to(phrases), phrases
    arguments["masks"][:, 0] = 1
    if not guided:
        return arguments
    doubled = {name: torch.cat([part, part]) for name, part in arguments.items()}
    doubled["masks"][:count] = 0
    return doubled
