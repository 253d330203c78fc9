"""Generators by name, loaded once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instsynth_dagster.settings import Settings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.synthesis.generators.base import Generator


class Generators:
    """Hands out generators; the weights stay loaded for the partitions that follow."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._settings, self._device = settings, device
        self._loaded: dict[str, Generator] = {}

    def __getitem__(self, name: str) -> Generator:
        if name not in self._loaded:
            from instsynth_dagster.synthesis.generators import load_generator

            self._loaded[name] = load_generator(name, self._settings.generators[name], self._device.name)
        return self._loaded[name]
