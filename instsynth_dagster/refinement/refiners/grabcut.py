"""GrabCut (OpenCV): redraws a border by colour alone and needs no weights."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from instsynth_dagster.refinement.boundary import Proposal, boundary_band
from instsynth_dagster.settings import BoundarySettings
from instsynth_dagster.synthesis.crops import Box

ITERATIONS = 4
MARGIN = 12
"""Pixels around the band that tell what the background looks like."""


_LABELS = ((cv2.GC_PR_FGD, cv2.GC_PR_BGD), (cv2.GC_FGD, cv2.GC_BGD))


class GrabCut:
    """`Refiner`: inside the band is foreground, beyond it background, in between GrabCut decides."""

    def __init__(self, settings: BoundarySettings, device: str) -> None:
        self._band = settings.band

    def refine(self, image: np.ndarray, boxes: Sequence[Box], coarse: np.ndarray) -> list[Proposal]:
        """See `Refiner.refine`; sure where it reached a cut, else the coarse mask at score 0."""
        return [self._one(image, box, mask) for box, mask in zip(boxes, coarse, strict=True)]

    def _one(self, image: np.ndarray, box: Box, mask: np.ndarray) -> Proposal:
        reach = self._band + MARGIN
        top, left = max(0, box[1] - reach), max(0, box[0] - reach)
        part = (slice(top, box[3] + reach), slice(left, box[2] + reach))
        inside = mask[part]
        band = boundary_band(inside, self._band)
        if not (inside & ~band).any() or not (~inside & ~band).any():
            return Proposal(mask, 0.0)  # too thin for an inside of its own, or filling the frame
        labels = np.where(
            band, np.where(inside, cv2.GC_PR_FGD, cv2.GC_PR_BGD), np.where(inside, cv2.GC_FGD, cv2.GC_BGD)
        )
        labels = labels.astype(np.uint8)
        models = np.zeros((2, 1, 65))
        cv2.setRNGSeed(0)
        pixels = np.ascontiguousarray(image[part][..., ::-1])
        cv2.grabCut(pixels, labels, (0, 0, 1, 1), models[0], models[1], ITERATIONS, cv2.GC_INIT_WITH_MASK)
        found = mask.copy()
        found[part] = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
        return Proposal(found, 1.0)
