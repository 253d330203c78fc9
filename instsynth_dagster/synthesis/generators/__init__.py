"""Generators by kind; a kind's module is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module

from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.base import Generator

_PACKAGE = "instsynth_dagster.synthesis.generators"
_KINDS = {
    "blendeddiff": f"{_PACKAGE}.blendeddiff:BlendedDiff",
    "diffinpainting": f"{_PACKAGE}.diffinpainting:DiffInpainting",
    "gligen": f"{_PACKAGE}.gligen:Gligen",
}


def load_generator(name: str, settings: GeneratorSettings, device: str) -> Generator:
    """The generator of params section `generators.<name>`, with its weights on `device`."""
    module, kind = _KINDS[settings.kind].split(":")
    return getattr(import_module(module), kind)(name, settings, device)
