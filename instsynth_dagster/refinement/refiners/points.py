"""Points well inside a mask."""

from __future__ import annotations

import cv2
import numpy as np


def interior_points(mask: np.ndarray, count: int) -> list[list[float]]:
    """[x, y] of `count` pixels of a non-empty mask bool (H, W), each as far as possible from the border and from
    earlier points.
    """
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    rows, columns = np.mgrid[: mask.shape[0], : mask.shape[1]]
    points = []
    for _ in range(count):
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        points.append([float(x), float(y)])
        apart = np.hypot(rows - y, columns - x)
        depth = np.where(mask, np.minimum(depth, apart), 0)
    return points
