"""Which sample is drawn when: a pure function of the seed and the draw's number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


class DrawSchedule:
    """Maps draw numbers 0, 1, 2, ... to sample indices.

    Real and synthetic samples are two streams, each walked in a fresh random order every epoch, so that no sample is
    seen twice before all have been seen once. Synthetic draws are spread evenly at `synthetic_fraction` of all; with
    one kind of sample only, every draw is of that kind.
    """

    def __init__(self, is_synthetic: Sequence[bool] | np.ndarray, synthetic_fraction: float, seed: int) -> None:
        flags = np.asarray(is_synthetic, dtype=bool)
        if not flags.size:
            raise ValueError("no samples to draw from")
        self._streams = (np.flatnonzero(~flags), np.flatnonzero(flags))
        self._fraction = float(flags.mean()) if flags.all() or not flags.any() else synthetic_fraction
        self._seed = seed

    def __getitem__(self, draw: int) -> int:
        before, after = int(draw * self._fraction), int((draw + 1) * self._fraction)
        synthetic = after > before
        stream = self._streams[synthetic]
        epoch, position = divmod(before if synthetic else draw - before, len(stream))
        return int(stream[_permutation(self._seed, int(synthetic), epoch, len(stream))[position]])


@lru_cache(maxsize=8)
def _permutation(seed: int, stream: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng([seed, stream, epoch]).permutation(length)
