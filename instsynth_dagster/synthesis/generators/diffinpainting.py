"""`diffinpainting`: a 9-channel inpainting UNet through diffusers' own pipeline (InstSynth's DiffInpainting)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import StableDiffusionInpaintPipeline

from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.pipeline import PipelineGenerator, to_images, to_pixels


class DiffInpainting(PipelineGenerator):
    """Fills masks with a Stable Diffusion inpainting checkpoint."""

    UNET_INPUTS = ("inpainting",)

    def __init__(self, name: str, settings: GeneratorSettings, device: str) -> None:
        super().__init__(name, settings, device, lambda _: StableDiffusionInpaintPipeline)

    @torch.inference_mode()
    def fill(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        prompts: Sequence[str],
        subjects: Sequence[str],
        seeds: Sequence[int],
    ) -> np.ndarray:
        """See `Generator.fill`."""
        settings = self._settings
        (embeddings,) = self._embed(prompts)
        (negative,) = self._embed([settings.negative_prompt or ""] * len(prompts))
        result = self._pipeline(
            prompt_embeds=embeddings,
            negative_prompt_embeds=negative if settings.guidance > 1 else None,
            image=to_pixels(images),
            mask_image=torch.from_numpy(masks)[:, None].float(),
            height=settings.size,
            width=settings.size,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            strength=settings.strength,
            generator=self._random(seeds),
            output_type="np",
        )
        return to_images(result.images)
