"""The networks that judge crops, loaded once per process; their features are cached by content."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from instsynth_dagster.models.feature_cache import FeatureCache
from instsynth_dagster.settings import JudgeSettings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.evaluation.metrics.inception import Inception
    from instsynth_dagster.models.clip import Clip

CACHE = ".cache/features.sqlite"


class Judge:
    """Provides the models of params section `judge`."""

    def __init__(self, local: Path, device: Device) -> None:
        """The models on a device; `local` is the local directory of the artifacts, in which the features are cached."""
        self._device = device
        self._cache = FeatureCache(local / CACHE)
        self._loaded: dict[str, Clip | Inception] = {}

    def clip(self, settings: JudgeSettings) -> Clip:
        """The CLIP that the section names."""
        from instsynth_dagster.models.clip import Clip

        if "clip" not in self._loaded:
            self._loaded["clip"] = Clip(settings.clip, self._device.name, self._cache)
        clip = self._loaded["clip"]
        assert isinstance(clip, Clip)
        return clip

    def fid_features(self, settings: JudgeSettings) -> Clip | Inception:
        """The network whose features FID and KID compare."""
        if settings.fid_features == "clip":
            return self.clip(settings)
        from instsynth_dagster.evaluation.metrics.inception import Inception

        if "inception" not in self._loaded:
            weights = Path(settings.inception_weights) if settings.inception_weights else None
            self._loaded["inception"] = Inception(weights, self._cache, self._device.name)
        return self._loaded["inception"]
