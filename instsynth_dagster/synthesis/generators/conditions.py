"""Conditioning images for a ControlNet: the structure of a source."""

from __future__ import annotations

import cv2
import numpy as np

_THRESHOLDS = (40, 80, 120, 160)
"""Upper thresholds of Canny on grey levels that span 0..255 inside the mask; the lower ones are half of them."""


def soft_edges(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Edges of a source inside its mask: uint8 (S, S), the share of thresholds that find an edge there, 255 for all; 0
    outside the mask.

    The outline of the mask counts as the strongest edge, because the label gives it for certain. Brightness is
    stretched first, so that an instance in the shade has the same edges as one in the sun.

    Args:
        image: uint8 (S, S, 3) RGB.
        mask: bool (S, S).
    """
    if not mask.any():
        return np.zeros(mask.shape, np.uint8)
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
    low, high = np.percentile(grey[mask], (1, 99))
    stretched = ((grey - low) * (255 / max(high - low, 1))).clip(0, 255).astype(np.uint8)
    found = [cv2.Canny(stretched, upper / 2, upper, L2gradient=True) > 0 for upper in _THRESHOLDS]
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1).astype(bool)
    edges = np.where(mask & ~inner, 1.0, np.mean(found, axis=0) * mask)
    return np.rint(edges * 255).astype(np.uint8)
