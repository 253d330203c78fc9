"""Generators by kind; a kind's module is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module

from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.base import Generator

_KINDS = {
    "blendeddiff": "BlendedDiff",
    "diffinpainting": "DiffInpainting",
    "flux2_klein": "Flux2Klein",
    "flux_fill": "FluxFill",
    "gligen": "Gligen",
    "qwen_image": "QwenImage",
    "sd3_inpaint": "SD3Inpaint",
    "sdxl_inpaint": "SDXLInpaint",
    "z_image": "ZImage",
}
"""Class of each kind, in the module of the kind's name."""


def load_generator(name: str, settings: GeneratorSettings, device: str) -> Generator:
    """The generator of params section `generators.<name>`, with its weights on `device`."""
    module = import_module(f"{__name__}.{settings.kind}")
    return getattr(module, _KINDS[settings.kind])(name, settings, device)
