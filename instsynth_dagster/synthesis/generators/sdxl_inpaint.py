"""`sdxl_inpaint`: Stable Diffusion XL with a 9-channel UNet; few steps with an LCM LoRA and the `lcm` scheduler."""

from __future__ import annotations

import diffusers

from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.stable_diffusion import StableDiffusionGenerator


class SDXLInpaint(StableDiffusionGenerator):
    """A generator with an XL inpainting checkpoint."""

    LICENCE = "CreativeML OpenRAIL++-M"

    def __init__(self, name: str, settings: GeneratorSettings, device: str) -> None:
        super().__init__(name, settings, device, lambda _: diffusers.StableDiffusionXLInpaintPipeline)
