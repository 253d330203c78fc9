"""Feature extractors and refiners of borders, loaded once per process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instsynth_dagster.settings import BoundarySettings, FeatureSettings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.refinement.boundary import Refiner
    from instsynth_dagster.refinement.features import Extractor


class Refining:
    """Provides the models of sections of the params file."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._extractors: dict[FeatureSettings, Extractor] = {}
        self._refiners: dict[BoundarySettings, Refiner] = {}

    def extractor(self, features: FeatureSettings) -> Extractor:
        """The frozen extractor of a section `features`."""
        from instsynth_dagster.refinement.features import build_extractor

        if features not in self._extractors:
            self._extractors[features] = build_extractor(features, self._device.name)
        return self._extractors[features]

    def refiner(self, boundary: BoundarySettings | None) -> Refiner | None:
        """The refiner of borders; None where the section is missing."""
        from instsynth_dagster.refinement.refiners import build_refiner

        if boundary is None:
            return None
        if boundary not in self._refiners:
            self._refiners[boundary] = build_refiner(boundary, self._device.name)
        return self._refiners[boundary]
