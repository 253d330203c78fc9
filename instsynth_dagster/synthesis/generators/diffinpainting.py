"""`diffinpainting`: a 9-channel inpainting UNet through diffusers' own pipeline (InstSynth's DiffInpainting)."""

from __future__ import annotations

import diffusers

from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.stable_diffusion import StableDiffusionGenerator


class DiffInpainting(StableDiffusionGenerator):
    """A generator with a Stable Diffusion inpainting checkpoint."""

    def __init__(self, name: str, settings: GeneratorSettings, device: str) -> None:
        super().__init__(name, settings, device, lambda _: diffusers.StableDiffusionInpaintPipeline)
