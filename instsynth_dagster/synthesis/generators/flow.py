"""The common base of the flow-matching transformers (SD3, FLUX, Z-Image, Qwen-Image)."""

from __future__ import annotations

from typing import Any

import diffusers

from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.pipeline import PipelineGenerator


class FlowGenerator(PipelineGenerator):
    """An inpainting pipeline around a transformer; after each step the source is blended back in outside the mask."""

    PIPELINE = ""
    """Class name in diffusers; imported when the adapter is chosen."""

    PATCH = 2

    def __init__(self, name: str, settings: GeneratorSettings, device: str) -> None:
        super().__init__(name, settings, device, self._pipeline_class)

    @classmethod
    def _pipeline_class(cls, _: str) -> Any:
        return getattr(diffusers, cls.PIPELINE)
