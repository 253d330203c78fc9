"""SABR: a refiner corrects the border of a mask, and changes nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from instsynth_dagster.synthesis.crops import Box


@dataclass(frozen=True)
class Proposal:
    """A refiner's proposal: foreground bool (H, W), and its confidence, 0..1."""

    mask: np.ndarray
    score: float


class Refiner(Protocol):
    """A model that segments objects in an image."""

    def refine(self, image: np.ndarray, boxes: Sequence[Box], coarse: np.ndarray) -> list[Proposal]:
        """Foreground of each box.

        Args:
            image: uint8 (H, W, 3) RGB; computations on the image alone are done once.
            boxes: N tight boxes xyxy, pixels, x2/y2 exclusive.
            coarse: bool (N, H, W), the current masks.
        """
        ...


def boundary_band(mask: np.ndarray, width: int) -> np.ndarray:
    """bool (H, W): pixels within `width` px of the border of a mask, on either side of it."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    solid = mask.astype(np.uint8)
    # the frame's edge does not count as a border of the object
    eroded = cv2.erode(solid, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return cv2.dilate(solid, kernel).astype(bool) & ~eroded.astype(bool)


def accepted(proposal: Proposal, coarse: np.ndarray, min_iou: float, min_score: float) -> bool:
    """Whether a proposal is of the same object (by IoU with the coarse mask) and its confidence is sufficient."""
    union = (proposal.mask | coarse).sum()
    iou = (proposal.mask & coarse).sum() / union if union else 0.0
    return bool(iou >= min_iou and proposal.score >= min_score)


def redraw(coarse: np.ndarray, proposal: np.ndarray, writable: np.ndarray) -> np.ndarray:
    """The proposal on the writable pixels, the coarse mask elsewhere; all bool (H, W)."""
    return np.where(writable, proposal, coarse)


def boundary_f(ours: np.ndarray, truth: np.ndarray, tolerance: float = 2.0) -> float:
    """Boundary F measure, 0..1: harmonic mean of the shares of each contour within `tolerance` px of the other.

    Two empty masks score 1, one empty mask scores 0.
    """
    edges = [_contour(mask) for mask in (ours, truth)]
    if not (edges[0].any() and edges[1].any()):
        return float(edges[0].any() == edges[1].any())
    distance = [cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for edge in edges]
    precision = float((distance[1][edges[0]] <= tolerance).mean())
    recall = float((distance[0][edges[1]] <= tolerance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _contour(mask: np.ndarray) -> np.ndarray:
    solid = mask.astype(np.uint8)
    return mask & ~cv2.erode(solid, np.ones((3, 3), np.uint8), borderValue=0).astype(bool)
