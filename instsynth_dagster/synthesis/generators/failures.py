"""Crops that a model failed to paint, and runs that are not worth going on with."""

from __future__ import annotations

import numpy as np

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import GeneratorSettings

FLAT = "one colour"
UNCHANGED = "unchanged inside its mask"
_LEAST_DEVIATION = 2.0
"""Grey levels; what deviates less within a mask is no picture of anything."""
_ENOUGH_PIXELS = 64
"""A mask of fewer pixels may well have one colour; then the whole crop is looked at."""
_FIRST_VERDICT, _FEWEST = 8, 3
"""Failures after which a run of which most crops fail ends at once, and at the end of a partition."""


def failure(painted: np.ndarray, source: np.ndarray, mask: np.ndarray) -> str:
    """Why a crop counts as failed, or "".

    Args:
        painted, source: uint8 (S, S, 3), after and before; what became non-finite is black (`to_images`).
        mask: bool (S, S), where to paint.
    """
    inside = painted[mask]
    if len(inside) and np.array_equal(inside, source[mask]):
        return UNCHANGED
    pixels = inside if len(inside) >= _ENOUGH_PIXELS else painted.reshape(-1, 3)
    return FLAT if pixels.std(axis=0, dtype=np.float64).max() < _LEAST_DEVIATION else ""


class Tally:
    """Crops and failures of a generator in one run, over all its partitions."""

    def __init__(self) -> None:
        self.crops = self.failures = 0
        self._last = ""

    def count(self, reason: str) -> None:
        """Count a crop that failed for a reason, or did not ("")."""
        self.crops += 1
        self.failures += bool(reason)
        self._last = reason or self._last

    @property
    def mostly_failures(self) -> bool:
        return 2 * self.failures > self.crops

    def check(self, name: str, settings: GeneratorSettings, last: bool) -> None:
        """End a run of which most crops fail.

        Args:
            last: whether a partition ends here, so that few crops must do for a verdict.

        Raises:
            SettingsError: names the generator, the dtype and the remedy.
        """
        if not self.mostly_failures or self.failures < (_FEWEST if last else _FIRST_VERDICT):
            return
        remedy = "the checkpoint and its scheduler do not fit each other or the weights are damaged; name another model"
        if settings.dtype != "float32":
            remedy = f"float32 did not help single crops; set generators.{name}.dtype to float32, or name another model"
        raise SettingsError(
            f"generators.{name}: {self.failures} of {self.crops} crops failed in {settings.dtype} "
            f"(the last is {self._last}); {remedy}"
        )
