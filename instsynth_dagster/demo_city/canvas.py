"""A canvas that draws colour and id together, at twice the final resolution."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Color = tuple[int, int, int]
Point = tuple[float, float]
SUPERSAMPLING = 2


class Canvas:
    """Painter's canvas; coordinates are pixels of the final picture."""

    def __init__(self, width: int, height: int) -> None:
        shape = (height * SUPERSAMPLING, width * SUPERSAMPLING)
        self.image = np.zeros((*shape, 3), np.uint8)
        self.ids = np.zeros(shape, np.uint16)

    def polygon(self, points: Sequence[Point], color: Color, value: int) -> None:
        corners = np.rint(np.asarray(points) * SUPERSAMPLING).astype(np.int32)
        cv2.fillPoly(self.image, [corners], color)
        cv2.fillPoly(self.ids, [corners], value)

    def box(self, x1: float, y1: float, x2: float, y2: float, color: Color, value: int) -> None:
        self.polygon([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], color, value)

    def disc(self, x: float, y: float, radius: float, color: Color, value: int, squash: float = 1.0) -> None:
        center = (round(x * SUPERSAMPLING), round(y * SUPERSAMPLING))
        axes = (max(1, round(radius * squash * SUPERSAMPLING)), max(1, round(radius * SUPERSAMPLING)))
        cv2.ellipse(self.image, center, axes, 0, 0, 360, color, cv2.FILLED)
        cv2.ellipse(self.ids, center, axes, 0, 0, 360, value, cv2.FILLED)

    def line(self, points: Sequence[Point], width: float, color: Color, value: int) -> None:
        corners = [np.rint(np.asarray(points) * SUPERSAMPLING).astype(np.int32)]
        thickness = max(1, round(width * SUPERSAMPLING))
        cv2.polylines(self.image, corners, False, color, thickness)
        cv2.polylines(self.ids, corners, False, value, thickness)

    def ring(self, x: float, y: float, radius: float, width: float, color: Color, value: int) -> None:
        center = (round(x * SUPERSAMPLING), round(y * SUPERSAMPLING))
        thickness = max(1, round(width * SUPERSAMPLING))
        cv2.circle(self.image, center, max(1, round(radius * SUPERSAMPLING)), color, thickness)
        cv2.circle(self.ids, center, max(1, round(radius * SUPERSAMPLING)), value, thickness)

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """image uint8 (H, W, 3) averaged down, ids int32 (H, W) by nearest neighbour."""
        height, width = (side // SUPERSAMPLING for side in self.ids.shape)
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(image), self.ids[::SUPERSAMPLING, ::SUPERSAMPLING].astype(np.int32)


def shade(color: Color, factor: float) -> Color:
    """A lighter (> 1) or darker (< 1) tone of a colour."""
    red, green, blue = (int(min(max(channel * factor, 0), 255)) for channel in color)
    return red, green, blue
