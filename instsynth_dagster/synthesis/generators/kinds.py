"""Settings of each kind of generator, in addition to the settings that all kinds share."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from instsynth_dagster.settings.checkpoint import CheckpointRef
from instsynth_dagster.settings.synthesis import GeneratorSettings

_HERE = "instsynth_dagster.synthesis.generators"


class BlendedDiffSettings(GeneratorSettings):
    """Blended latent diffusion on a text-to-image checkpoint of Stable Diffusion."""

    kind: Literal["blendeddiff"]
    mask_dilations: int = Field(0, ge=0, description="thin masks start this much wider and shrink")
    IMPLEMENTATION = f"{_HERE}.blendeddiff:BlendedDiff"


class ControlNetInpaintSettings(GeneratorSettings):
    """Settings of a generator that keeps the structure of the source: `edges` are Canny's inside the mask, `depth` is
    the map of `depth_model`.
    """

    kind: Literal["controlnet_inpaint"]
    controlnet: CheckpointRef = Field(description="folder or hub id[@revision] of a ControlNet for `model`")
    condition: Literal["edges", "depth"] = "edges"
    depth_model: CheckpointRef | None = Field(
        None, description="DPT or Depth Anything, folder or hub id[@revision]; exactly for condition depth"
    )
    control_strength: float = Field(1.0, ge=0, le=2, description="weight of what the ControlNet adds")
    control_end: float = Field(1.0, gt=0, le=1, description="share of the steps with the ControlNet on")
    IMPLEMENTATION = f"{_HERE}.controlnet_inpaint:ControlNetInpaint"

    @model_validator(mode="after")
    def _depth_model_used(self) -> Self:
        if (self.condition == "depth") != (self.depth_model is not None):
            raise ValueError("depth_model is given exactly where condition is depth")
        return self


class DiffInpaintingSettings(GeneratorSettings):
    """An inpainting checkpoint of Stable Diffusion."""

    kind: Literal["diffinpainting"]
    IMPLEMENTATION = f"{_HERE}.diffinpainting:DiffInpainting"


class Flux2KleinSettings(GeneratorSettings):
    """FLUX.2 klein."""

    kind: Literal["flux2_klein"]
    IMPLEMENTATION = f"{_HERE}.flux2_klein:Flux2Klein"


class FluxFillSettings(GeneratorSettings):
    """FLUX.1 Fill."""

    kind: Literal["flux_fill"]
    IMPLEMENTATION = f"{_HERE}.flux_fill:FluxFill"


class GligenSettings(GeneratorSettings):
    """A GLIGEN checkpoint."""

    kind: Literal["gligen"]
    grounded_steps: float = Field(1.0, ge=0, le=1, description="share of the steps with grounding on")
    IMPLEMENTATION = f"{_HERE}.gligen:Gligen"


class QwenImageSettings(GeneratorSettings):
    """Qwen-Image."""

    kind: Literal["qwen_image"]
    IMPLEMENTATION = f"{_HERE}.qwen_image:QwenImage"


class SD3InpaintSettings(GeneratorSettings):
    """Stable Diffusion 3 and 3.5."""

    kind: Literal["sd3_inpaint"]
    IMPLEMENTATION = f"{_HERE}.sd3_inpaint:SD3Inpaint"


class SDXLInpaintSettings(GeneratorSettings):
    """An inpainting checkpoint of Stable Diffusion XL."""

    kind: Literal["sdxl_inpaint"]
    IMPLEMENTATION = f"{_HERE}.sdxl_inpaint:SDXLInpaint"


class ZImageSettings(GeneratorSettings):
    """Z-Image."""

    kind: Literal["z_image"]
    IMPLEMENTATION = f"{_HERE}.z_image:ZImage"
