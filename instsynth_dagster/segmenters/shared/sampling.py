"""The sample of each draw: a pure function of the seed and the draw's number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np


class DrawSchedule:
    """Maps draw numbers 0, 1, 2, ... to sample indices.

    Real and synthetic samples are two streams, each traversed in a new random order every epoch, so that no sample is
    repeated before all have been drawn once (with `repeats`, a sample occurs in an epoch that many times on average).
    Synthetic draws are spread evenly at `synthetic_fraction` of all; with one kind of sample only, every draw is of
    that kind.

    Args:
        repeats: float (N,) of at least 1, such as `repeat_factors`; default: 1 for each.
    """

    def __init__(
        self,
        is_synthetic: Sequence[bool] | np.ndarray,
        synthetic_fraction: float,
        seed: int,
        repeats: np.ndarray | None = None,
    ) -> None:
        flags = np.asarray(is_synthetic, dtype=bool)
        if not flags.size:
            raise ValueError("no samples to draw from")
        self._streams = (np.flatnonzero(~flags), np.flatnonzero(flags))
        self._fraction = float(flags.mean()) if flags.all() or not flags.any() else synthetic_fraction
        self._seed = seed
        every = np.ones(len(flags)) if repeats is None else repeats
        self._order = lru_cache(maxsize=8)(partial(_order, seed, [every[stream] for stream in self._streams]))
        self._lengths = [round(every[stream].sum()) for stream in self._streams]

    def __getitem__(self, draw: int) -> int:
        before, after = int(draw * self._fraction), int((draw + 1) * self._fraction)
        synthetic = after > before
        epoch, position = divmod(before if synthetic else draw - before, self._lengths[synthetic])
        return int(self._streams[synthetic][self._order(int(synthetic), epoch)[position]])


def _order(seed: int, repeats: Sequence[np.ndarray], stream: int, epoch: int) -> np.ndarray:
    """Positions in a stream for one epoch: integer parts of the repeats always, fractions by systematic sampling."""
    rng = np.random.default_rng([seed, stream, epoch])
    factors = repeats[stream]
    length = round(factors.sum())
    if length == len(factors):
        return rng.permutation(length)
    edges = np.cumsum(factors) * (length / factors.sum())
    drawn = np.searchsorted(edges, np.arange(length) + rng.random(), side="right").clip(max=len(factors) - 1)
    return rng.permutation(drawn)


def repeat_factors(classes_in: np.ndarray, threshold: float) -> np.ndarray:
    """LVIS repeat factors float64 (N,): max over a sample's classes of max(1, sqrt(threshold / share of samples)).

    Args:
        classes_in: bool (N, C), the classes of each sample.
        threshold: a class in fewer than this share of the samples is repeated.
    """
    share = classes_in.mean(axis=0)
    of_class = np.maximum(1, np.sqrt(threshold / np.maximum(share, 1e-12)))
    return np.where(classes_in, of_class, 1.0).max(axis=1, initial=1.0)
