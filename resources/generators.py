"""Generators by name, loaded once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instsynth_dagster.settings import GeneratorSettings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.synthesis.generators.base import Generator
    from instsynth_dagster.synthesis.generators.failures import Tally


class Generators:
    """Provides generators; their weights stay loaded for later partitions."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._loaded: dict[str, Generator] = {}
        self._tallies: dict[str, Tally] = {}

    def load(self, name: str, settings: GeneratorSettings) -> Generator:
        """The generator of params section `generators.<name>`, given as `settings`."""
        if name not in self._loaded:
            from instsynth_dagster.synthesis.generators import load_generator

            self._loaded[name] = load_generator(name, settings, self._device.name)
        return self._loaded[name]

    def tally(self, name: str) -> Tally:
        """Counts of crops and failures of a generator in this process."""
        from instsynth_dagster.synthesis.generators.failures import Tally

        return self._tallies.setdefault(name, Tally())
