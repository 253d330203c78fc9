"""The networks that judge crops, loaded once per process; their features are kept by content."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.models.feature_cache import FeatureCache
from instsynth_dagster.settings import JudgeSettings, Settings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.evaluation.metrics.inception import Inception
    from instsynth_dagster.models.clip import Clip

CACHE = ".cache/features.sqlite"


class Judge:
    """Hands out what params section `judge` names."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._given, self._device = settings.judge, device
        self._cache = FeatureCache(settings.artifacts.local / CACHE)

    @property
    def _settings(self) -> JudgeSettings:
        if self._given is None:
            raise SettingsError("judge: the params file names no CLIP; add judge.clip")
        return self._given

    @cached_property
    def clip(self) -> Clip:
        from instsynth_dagster.models.clip import Clip

        return Clip(self._settings.clip, self._device.name, self._cache)

    @cached_property
    def fid_features(self) -> Clip | Inception:
        """What FID and KID compare."""
        if self._settings.fid_features == "clip":
            return self.clip
        from instsynth_dagster.evaluation.metrics.inception import Inception

        return Inception(self._settings.inception_weights, self._cache, self._device.name)
