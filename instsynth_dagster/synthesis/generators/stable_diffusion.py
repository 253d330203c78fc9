"""Stable Diffusion 1, 2 and XL: the encoding of their prompts, and the UNets that a generator can run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.quiet import quiet_diffusers
from instsynth_dagster.models.sources import pipeline_index
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.fit import UNET_INPUTS, wrong_inputs
from instsynth_dagster.synthesis.generators.pipeline import PipelineGenerator, to_pixels


class StableDiffusionGenerator(PipelineGenerator):
    """A UNet with one text encoder, or XL's two."""

    LICENCE = "CreativeML OpenRAIL-M"

    def __init__(self, name: str, settings: GeneratorSettings, device: str, choose: Callable[[str], Any]) -> None:
        super().__init__(name, settings, device, choose)
        if device.startswith("cuda"):
            # not on a CPU: the gain is small, and the last bits would depend on the number of threads
            with quiet_diffusers():
                for part in (self._pipeline.unet, self._pipeline.vae):
                    part.to(memory_format=torch.channels_last)

    def _check(self, name: str) -> None:
        super()._check(name)
        inputs = self._pipeline.unet.config.in_channels
        if line := wrong_inputs(
            name, UNET_INPUTS[self._settings.kind], inputs, self._pipeline.vae.config.latent_channels
        ):
            raise CheckpointError(line)

    def _extras(self, images: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
        if self._pipeline.unet.config.in_channels == self._pipeline.vae.config.latent_channels:
            return {}
        # the masked source that an inpainting UNet reads ends at the true mask, not at whole cells
        return {"masked_image_latents": (2 * to_pixels(images) - 1) * ~torch.from_numpy(masks)[:, None]}

    @property
    def _is_xl(self) -> bool:
        return "text_encoder_2" in self._pipeline.components

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        if not self._is_xl:
            return (self._pipeline.encode_prompt(prompt, self._device, 1, False)[0][0],)
        embedding, _, pooled, _ = self._pipeline.encode_prompt(
            prompt, device=self._device, do_classifier_free_guidance=False
        )
        return embedding[0], pooled[0]

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        names = ("prompt_embeds", "pooled_prompt_embeds")
        given = dict(zip(names, self._embed(prompts), strict=False))
        negatives = self._negatives(prompts)
        if not negatives:
            return given
        parts = self._embed(negatives)
        if self._is_xl and not negatives[0] and self._pipeline.config.force_zeros_for_empty_prompt:
            # XL's convention for an empty negative prompt
            parts = tuple(torch.zeros_like(part) for part in parts)
        return given | {f"negative_{name}": part for name, part in zip(names, parts, strict=False)}


def inpainting_pipeline(source: str) -> Any:
    """diffusers' inpainting pipeline for a checkpoint of Stable Diffusion 1, 2 or XL."""
    kind = pipeline_index(source)["_class_name"]
    return diffusers.StableDiffusionXLInpaintPipeline if "XL" in kind else diffusers.StableDiffusionInpaintPipeline
