"""GrabCut (OpenCV): corrects a border by colour alone, without weights."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from instsynth_dagster.refinement.boundary import Proposal, boundary_band
from instsynth_dagster.settings import BoundarySettings
from instsynth_dagster.synthesis.crops import Box

ITERATIONS = 4
MARGIN = 12
"""Width in pixels of the ring around the band that serves as background."""


_LABELS = ((cv2.GC_PR_FGD, cv2.GC_PR_BGD), (cv2.GC_FGD, cv2.GC_BGD))


class GrabCut:
    """`Refiner`: pixels inside the band are foreground, those beyond it background, and GrabCut decides on the band."""

    def __init__(self, settings: BoundarySettings, device: str) -> None:
        self._band = settings.band

    def refine(self, image: np.ndarray, boxes: Sequence[Box], coarse: np.ndarray) -> list[Proposal]:
        """Foreground of each box, see `Refiner.refine`; the score is 1 where a cut was found, otherwise the coarse mask
        at score 0 is returned.
        """
        return [self._one(image, box, mask) for box, mask in zip(boxes, coarse, strict=True)]

    def _one(self, image: np.ndarray, box: Box, mask: np.ndarray) -> Proposal:
        reach = self._band + MARGIN
        top, left = max(0, box[1] - reach), max(0, box[0] - reach)
        part = (slice(top, box[3] + reach), slice(left, box[2] + reach))
        inside = mask[part]
        band = boundary_band(inside, self._band)
        if not (inside & ~band).any() or not (~inside & ~band).any():
            return Proposal(mask, 0.0)  # too thin to have an interior, or filling the frame
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
