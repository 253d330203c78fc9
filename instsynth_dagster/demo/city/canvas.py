"""Perspective drawing on an image and its id map at once.

World axes in metres: x right, y up, z forward, the camera at the origin of x and z. Objects draw in their own axes:
u along the length (front positive), v up, w across (left of the heading positive). Yaw 0 heads right, pi/2 heads away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from instsynth_dagster.demo.city.palette import Color, mix, scale

SUPERSAMPLING = 2
_SHIFT = 4
_NEAR = 0.6
_CIRCLE = np.stack([np.cos(np.arange(12) * np.pi / 6), np.sin(np.arange(12) * np.pi / 6)], axis=1)


@dataclass(frozen=True)
class Camera:
    """A level pinhole camera; focal length and centre in supersampled pixels, height in metres."""

    focal: float
    center: tuple[float, float]
    height: float

    def project(self, world: np.ndarray) -> np.ndarray:
        """Pixels (N,2) of world points (N,3); points behind the near plane are moved onto it."""
        depth = np.maximum(world[:, 2], _NEAR)
        x = self.center[0] + self.focal * world[:, 0] / depth
        y = self.center[1] + self.focal * (self.height - world[:, 1]) / depth
        return np.clip(np.stack([x, y], axis=1), -8000, 8000)


@dataclass(frozen=True)
class Light:
    """Weather of a scene: unit vector to the sun, share of ambient light, colour and density (1/m) of the haze."""

    name: str
    sun: np.ndarray
    ambient: float
    haze: Color
    density: float
    tint: Color

    def shade(self, normal: np.ndarray) -> float:
        """Brightness of a face with a unit normal in world axes."""
        return self.ambient + (1.12 - self.ambient) * max(0.0, float(normal @ self.sun))


class Canvas:
    """Image (uint8 RGB) and ids (int32) of the same supersampled size, with its camera and light."""

    def __init__(self, width: int, height: int, camera: Camera, light: Light) -> None:
        self.image = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING, 3), np.uint8)
        self.ids = np.zeros(self.image.shape[:2], np.int32)
        self.camera, self.light = camera, light

    def polygons(self, polygons: Sequence[np.ndarray], color: Color, value: int | None) -> None:
        """Fill disjoint pixel polygons, each (N,2); with `value` None the ids are unchanged."""
        fixed = [np.round(polygon * (1 << _SHIFT)).astype(np.int32) for polygon in polygons]
        cv2.fillPoly(self.image, fixed, color, lineType=cv2.LINE_AA, shift=_SHIFT)
        if value is not None:
            cv2.fillPoly(self.ids, fixed, (value,), lineType=cv2.LINE_8, shift=_SHIFT)

    def polyline(self, points: np.ndarray, color: Color, width: float, value: int | None, closed: bool = False) -> None:
        """Draw a line of `width` pixels through pixel points (N,2)."""
        fixed = [np.round(points * (1 << _SHIFT)).astype(np.int32)]
        thickness = max(1, round(width))
        cv2.polylines(self.image, fixed, closed, color, thickness, cv2.LINE_AA, _SHIFT)
        if value is not None:
            cv2.polylines(self.ids, fixed, closed, (value,), thickness, cv2.LINE_8, _SHIFT)


class Pen:
    """Drawing tool for one object: maps local coordinates to the canvas, with the object's id, the scene's light and
    the haze of its distance.
    """

    def __init__(self, canvas: Canvas, x: float, z: float, yaw: float, value: int, size: float = 1.0) -> None:
        self.canvas, self.value, self.size = canvas, value, size
        self.origin = np.array([x, 0.0, z])
        cos, sin = np.cos(yaw), np.sin(yaw)
        self.axes = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        self.viewer = self.axes @ (np.array([0, canvas.camera.height, 0]) - self.origin) / size
        self.scale = canvas.camera.focal * size / max(z, _NEAR)
        self.fog = 1 - np.exp(-canvas.light.density * max(z, 0))

    def pixels(self, local: np.ndarray) -> np.ndarray:
        """Local points (N,3) in metres to pixels (N,2)."""
        return self.canvas.camera.project(self.origin + self.size * np.asarray(local, float) @ self.axes)

    def tone(self, color: Color) -> Color:
        """A colour seen through the haze."""
        return mix(color, self.canvas.light.haze, self.fog)

    def faces(self, normal: np.ndarray | Sequence[float], point: np.ndarray | Sequence[float]) -> bool:
        """Whether a local face is turned towards the camera."""
        return float(np.dot(normal, self.viewer - np.asarray(point))) > 0

    def shade(self, normal: Sequence[float]) -> float:
        """Brightness of a local face."""
        return self.canvas.light.shade(np.asarray(normal, float) @ self.axes)

    def fill(self, local: np.ndarray, color: Color) -> None:
        """A flat polygon through local points (N,3)."""
        self.canvas.polygons([self.pixels(local)], self.tone(color), self.value)

    def fill_all(self, quads: np.ndarray, color: Color) -> None:
        """Disjoint polygons (M,N,3) of one colour."""
        points = self.pixels(quads.reshape(-1, 3)).reshape(*quads.shape[:2], 2)
        self.canvas.polygons(list(points), self.tone(color), self.value)

    def line(self, local: np.ndarray, color: Color, width: float, closed: bool = False) -> None:
        """A line `width` metres thick through local points (N,3)."""
        self.canvas.polyline(self.pixels(local), self.tone(color), width * self.scale, self.value, closed)

    def limb(self, start: Sequence[float], end: Sequence[float], radii: tuple[float, float], color: Color) -> None:
        """A round, tapered tube between two local points, shaded away from the sun."""
        self.mass((start, end), radii, color)

    def mass(self, centers: Sequence[Sequence[float]], radii: Sequence[float], color: Color) -> None:
        """The hull of balls at local points, shaded away from the sun."""
        points = self.pixels(np.array(centers))
        thickness = np.maximum(np.array(radii) * self.scale, 0.5)
        lit = np.array([np.sign(self.canvas.light.sun[0]) * 0.24, -0.08])
        for factor, inset, offset in ((0.78, 1.0, np.zeros(2)), (1.04, 0.74, lit)):
            if inset < 1 and thickness.max() < 1.5:
                break
            outline = (points + offset * thickness[:, None])[:, None] + _CIRCLE * (inset * thickness)[:, None, None]
            hull = cv2.convexHull(outline.reshape(-1, 2).astype(np.float32))[:, 0]
            self.canvas.polygons([hull], self.tone(scale(color, factor)), self.value)

    def ball(self, center: Sequence[float], radius: float, color: Color) -> None:
        """A shaded ball."""
        self.limb(center, center, (radius, radius), color)

    def disk(self, u: float, v: float, w: float, radius: float, color: Color, points: int = 24) -> None:
        """A disk that stands in the plane of the heading."""
        self.fill(circle(u, v, w, radius, points), color)

    def cover(self, local: np.ndarray) -> None:
        """Add a polygon to this object's mask without painting it, as annotators do between spokes."""
        fixed = np.round(self.pixels(local) * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(self.canvas.ids, [fixed], (self.value,), lineType=cv2.LINE_8, shift=_SHIFT)


def circle(u: float, v: float, w: float, radius: float, points: int = 24) -> np.ndarray:
    """(points,3) local points of a circle in the plane of the heading."""
    angle = np.arange(points) * 2 * np.pi / points
    return np.stack([u + radius * np.cos(angle), v + radius * np.sin(angle), np.full(points, w)], axis=1)
