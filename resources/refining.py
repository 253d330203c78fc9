"""What refines pseudo-labels and tells classes apart, loaded once per process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import FewShotSettings, RefinementSettings, Settings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.refinement.boundary import Refiner
    from instsynth_dagster.refinement.features import Extractor


class Refining:
    """Hands out what params section `refinement` names."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._given, self._device = settings.refinement, device

    @property
    def settings(self) -> RefinementSettings:
        if self._given is None:
            raise SettingsError("refinement: the params file has no such section")
        return self._given

    @cached_property
    def extractor(self) -> Extractor:
        from instsynth_dagster.refinement.features import build_extractor

        return build_extractor(self.settings.features, self._device.name)

    @cached_property
    def refiner(self) -> Refiner | None:
        from instsynth_dagster.refinement.refiners import build_refiner

        boundary = self.settings.boundary
        return build_refiner(boundary, self._device.name) if boundary else None


class FewShot:
    """Hands out what params section `few_shot` names."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._given, self._device = settings.few_shot, device

    @property
    def settings(self) -> FewShotSettings:
        if self._given is None:
            raise SettingsError("few_shot: the params file has no such section")
        return self._given

    @cached_property
    def extractor(self) -> Extractor:
        from instsynth_dagster.refinement.features import build_extractor

        return build_extractor(self.settings.features, self._device.name)
