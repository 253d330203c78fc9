"""The CLIP that judges crops, loaded once per process."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import Settings
from resources.device import Device

if TYPE_CHECKING:
    from instsynth_dagster.clip import Clip


class Judge:
    """Hands out the CLIP of params section `judge`."""

    def __init__(self, settings: Settings, device: Device) -> None:
        self._settings, self._device = settings.judge, device

    @cached_property
    def clip(self) -> Clip:
        from instsynth_dagster.clip import Clip

        if self._settings is None:
            raise SettingsError("judge: the params file names no CLIP; add judge.clip")
        return Clip(self._settings.clip, self._device.name)
