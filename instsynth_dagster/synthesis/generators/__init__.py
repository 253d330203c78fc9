"""Generators by kind; the module of a kind is imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from instsynth_dagster.settings import GeneratorSettings
    from instsynth_dagster.synthesis.generators.base import Generator


def load_generator(name: str, settings: GeneratorSettings, device: str) -> Generator:
    """The generator of params section `generators.<name>`, with its weights on `device`."""
    generator: Generator = settings.implementation()(name, settings, device)
    if not settings.normalise_exposure:
        return generator
    from instsynth_dagster.synthesis.generators.exposure import NormalisedExposure

    return NormalisedExposure(generator)
