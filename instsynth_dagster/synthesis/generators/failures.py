"""Crops that a model failed to paint, and when a run with many of them is ended."""

from __future__ import annotations

import numpy as np

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import GeneratorSettings

FLAT = "one colour"
UNCHANGED = "unchanged inside its mask"
_LEAST_DEVIATION = 2.0
"""Standard deviation in grey levels inside a mask, below which a crop counts as one colour."""
_ENOUGH_PIXELS = 64
"""Pixels of a mask below which it may well have one colour; then the whole crop is tested."""
_FIRST_VERDICT, _FEWEST = 8, 3
"""Failures after which a run with mostly failed crops ends: at any time, and at the end of a partition."""


def failure_reason(painted: np.ndarray, source: np.ndarray, mask: np.ndarray) -> str:
    """The reason why a crop counts as failed, or "".

    Args:
        painted, source: uint8 (S, S, 3), after and before repainting; an image with non-finite values is black
            (`to_images`).
        mask: bool (S, S), the pixels to paint.
    """
    inside = painted[mask]
    if len(inside) and np.array_equal(inside, source[mask]):
        return UNCHANGED
    pixels = inside if len(inside) >= _ENOUGH_PIXELS else painted.reshape(-1, 3)
    return FLAT if pixels.std(axis=0, dtype=np.float64).max() < _LEAST_DEVIATION else ""


class Tally:
    """Counts of crops and failures of a generator in one run, over all its partitions."""

    def __init__(self) -> None:
        self.crops = self.failures = 0
        self._last = ""

    def count(self, reason: str) -> None:
        """Count a crop; `reason` is why it failed, "" if it did not."""
        self.crops += 1
        self.failures += bool(reason)
        self._last = reason or self._last

    @property
    def mostly_failures(self) -> bool:
        """Whether more than half of the crops failed."""
        return 2 * self.failures > self.crops

    def check(self, name: str, settings: GeneratorSettings, last: bool) -> None:
        """End a run in which most crops fail.

        Args:
            last: whether a partition ends here, so that a few crops suffice for the decision.

        Raises:
            SettingsError: most crops failed; the message names the generator, the dtype and the remedy.
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
