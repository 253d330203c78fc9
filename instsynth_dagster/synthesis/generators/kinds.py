"""Settings of each kind of generator: what it has beside the settings that all share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from instsynth_dagster.settings.synthesis import GeneratorSettings

_HERE = "instsynth_dagster.synthesis.generators"


class BlendedDiffSettings(GeneratorSettings):
    kind: Literal["blendeddiff"]
    mask_dilations: int = Field(0, ge=0, description="thin masks start this much wider and shrink")
    IMPLEMENTATION = f"{_HERE}.blendeddiff:BlendedDiff"


class DiffInpaintingSettings(GeneratorSettings):
    kind: Literal["diffinpainting"]
    IMPLEMENTATION = f"{_HERE}.diffinpainting:DiffInpainting"


class Flux2KleinSettings(GeneratorSettings):
    kind: Literal["flux2_klein"]
    IMPLEMENTATION = f"{_HERE}.flux2_klein:Flux2Klein"


class FluxFillSettings(GeneratorSettings):
    kind: Literal["flux_fill"]
    IMPLEMENTATION = f"{_HERE}.flux_fill:FluxFill"


class GligenSettings(GeneratorSettings):
    kind: Literal["gligen"]
    grounded_steps: float = Field(1.0, ge=0, le=1, description="share of the steps with grounding on")
    IMPLEMENTATION = f"{_HERE}.gligen:Gligen"


class QwenImageSettings(GeneratorSettings):
    kind: Literal["qwen_image"]
    IMPLEMENTATION = f"{_HERE}.qwen_image:QwenImage"


class SD3InpaintSettings(GeneratorSettings):
    kind: Literal["sd3_inpaint"]
    IMPLEMENTATION = f"{_HERE}.sd3_inpaint:SD3Inpaint"


class SDXLInpaintSettings(GeneratorSettings):
    kind: Literal["sdxl_inpaint"]
    IMPLEMENTATION = f"{_HERE}.sdxl_inpaint:SDXLInpaint"


class ZImageSettings(GeneratorSettings):
    kind: Literal["z_image"]
    IMPLEMENTATION = f"{_HERE}.z_image:ZImage"
