"""Exposure of dim crops: brightened for the model, and the painting darkened back by the same factor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from instsynth_dagster.synthesis.generators.base import Capabilities, Generator

_LEVEL = 100
"""Mean grey level of the surroundings below which a crop is brightened to this level."""
_MOST = 4.0


def exposure_gain(image: np.ndarray, mask: np.ndarray) -> float:
    """The factor, at least 1, that brings the surroundings of an instance to the usual brightness.

    The instance itself does not count, so that a black car on a bright street is not taken for a car at night.

    Args:
        image: uint8 (S, S, 3) RGB.
        mask: bool (S, S).
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    around = grey[~mask] if not mask.all() else grey
    return float(np.clip(_LEVEL / max(around.mean(dtype=np.float64), 1.0), 1.0, _MOST))


class NormalisedExposure:
    """A generator that paints dim crops at usual brightness and darkens the result by the same factor."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    @property
    def capabilities(self) -> Capabilities:
        return self._generator.capabilities

    @property
    def weights_digest(self) -> str:
        return self._generator.weights_digest

    @property
    def scheduler(self) -> str:
        return self._generator.scheduler

    def prepare(self, prompts: Iterable[str]) -> None:
        self._generator.prepare(prompts)

    def fill(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        prompts: Sequence[str],
        subjects: Sequence[str],
        seeds: Sequence[int],
    ) -> np.ndarray:
        """Repaint a batch, see `Generator.fill`; a crop of usual brightness gives the same result as without this
        wrapper.
        """
        gains = np.array([exposure_gain(image, mask) for image, mask in zip(images, masks, strict=True)])
        painted = self._generator.fill(_scaled(images, gains), masks, prompts, subjects, seeds)
        return _scaled(painted, 1 / gains)


def _scaled(images: np.ndarray, gains: np.ndarray) -> np.ndarray:
    return np.rint(images * gains[:, None, None, None]).clip(0, 255).astype(np.uint8)
