"""Cars, trucks, buses and trams: bodies as extruded side profiles, so that every viewing angle comes from one shape."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from instsynth_dagster.demo.city.canvas import Pen
from instsynth_dagster.demo.city.palette import Color, mix, scale

GLASS: Color = (44, 56, 68)
REFLECTION: Color = (128, 152, 170)
RUBBER: Color = (26, 26, 28)
CHASSIS: Color = (48, 48, 52)
RIM: Color = (176, 180, 186)
HEADLIGHT: Color = (255, 250, 225)
TAILLIGHT: Color = (215, 20, 24)
PLATE: Color = (236, 236, 228)


@dataclass(frozen=True)
class Body:
    """A closed counter-clockwise side profile: u, v and half width (N,3), and the material of each edge."""

    profile: np.ndarray
    materials: tuple[str, ...]
    paint: Color

    def draw(self, pen: Pen) -> float:
        """Draw the faces that are turned towards the camera, far ones first; returns the visible side (+1, -1),
        or 0.
        """
        following = np.roll(self.profile, -1, axis=0)
        faces = []
        for (u, v, w), (u2, v2, w2), material in zip(self.profile, following, self.materials, strict=True):
            normal = np.array([v2 - v, u - u2, 0.0]) / max(np.hypot(v2 - v, u - u2), 1e-6)
            center = np.array([(u + u2) / 2, (v + v2) / 2, 0.0])
            if pen.faces(normal, center):
                corners = np.array([[u, v, w], [u2, v2, w2], [u2, v2, -w2], [u, v, -w]])
                faces.append((-np.linalg.norm(pen.viewer - center), corners, material, normal))
        for _, corners, material, normal in sorted(faces, key=lambda face: face[0]):
            self._face(pen, corners, material, pen.shade(normal))
        return self._side(pen)

    def _face(self, pen: Pen, corners: np.ndarray, material: str, shade: float) -> None:
        color = {"paint": self.paint, "glass": GLASS, "under": CHASSIS}[material]
        pen.fill(corners, scale(self.paint if material == "glass" else color, shade))
        if material == "glass":
            pane = corners.mean(axis=0) + (corners - corners.mean(axis=0)) * np.array([0.88, 0.88, 0.9])
            pen.fill(pane, GLASS)
            near, far = 0.15, 0.42
            pen.fill(_across(pane, near, far), mix(GLASS, REFLECTION, 0.55))

    def _side(self, pen: Pen) -> float:
        widest = self.profile[:, 2].max()
        for side in (1.0, -1.0):
            if pen.faces((0, 0, side), (0, 0, side * widest)):
                points = self.profile * np.array([1, 1, side])
                pen.fill(points, scale(self.paint, pen.shade((0, 0, side))))
                return side
        return 0.0


def _across(pane: np.ndarray, near: float, far: float) -> np.ndarray:
    """A slanting strip of a quad, for a reflection."""
    low, high = pane[0], pane[1]
    low2, high2 = pane[3], pane[2]

    def at(share: float, upper: bool) -> np.ndarray:
        return (high + (high2 - high) * share) if upper else (low + (low2 - low) * share)

    return np.array([at(near, True), at(near + 0.22, True), at(far + 0.1, False), at(far - 0.12, False)])


def rect(u: tuple[float, float], v: tuple[float, float], w: float) -> np.ndarray:
    """An upright rectangle in the plane of the heading, (4,3)."""
    return np.array([[u[0], v[0], w], [u[1], v[0], w], [u[1], v[1], w], [u[0], v[1], w]])


def plate(u: float, v: tuple[float, float], w: tuple[float, float]) -> np.ndarray:
    """An upright rectangle across the heading, (4,3)."""
    return np.array([[u, v[0], w[0]], [u, v[1], w[0]], [u, v[1], w[1]], [u, v[0], w[1]]])


def _axles(pen: Pen, positions: list[float], half: float, radius: float) -> None:
    """All tyres as far as they show below the body."""
    for u in positions:
        for w in (half - 0.12, 0.12 - half):
            pen.disk(u, radius, w, radius, RUBBER, 16)
            pen.fill(plate(u - radius * 0.5 * np.sign(pen.viewer[0]), (0, radius), (w - 0.11, w + 0.11)), RUBBER)


def _wheels(pen: Pen, positions: list[float], side: float, half: float, radius: float, arch: Color) -> None:
    """Wheels on the side that shows."""
    if not side:
        return
    for u in positions:
        pen.disk(u, radius * 1.02, side * half, radius * 1.14, arch, 20)
        pen.disk(u, radius, side * half, radius, RUBBER, 20)
        pen.disk(u, radius, side * half, radius * 0.64, RIM, 16)
        for angle in np.arange(5) * 2 * np.pi / 5 + 0.3:
            tip = [u + radius * 0.6 * np.cos(angle), radius * (1 + 0.6 * np.sin(angle)), side * half]
            pen.line(np.array([[u, radius, side * half], tip]), scale(RIM, 0.6), 0.05)
        pen.disk(u, radius, side * half, radius * 0.2, scale(RIM, 0.5), 8)


def _lights(pen: Pen, ends: tuple[float, float], height: float, half: float, size: tuple[float, float]) -> None:
    """Head- and taillights, number plate and bumper on the end that shows."""
    rear, front = ends
    for u, normal, color in ((front, 1, HEADLIGHT), (rear, -1, TAILLIGHT)):
        if not pen.faces((normal, 0, 0), (u, height, 0)):
            continue
        u += 0.01 * normal
        for side in (1, -1):
            inner, outer = side * (half - size[0]), side * half * 0.97
            pen.fill(plate(u, (height, height + size[1]), (inner, outer)), color)
        pen.fill(plate(u, (height - 0.2, height - 0.08), (-0.27, 0.27)), PLATE)
        if normal > 0:
            pen.fill(
                plate(u, (height, height + size[1] * 0.9), (-half + size[0] + 0.12, half - size[0] - 0.12)), RUBBER
            )


CARS = {
    # length, height, half width, bonnet, boot, rake of windscreen, rake of rear window
    "sedan": (4.6, 1.44, 0.90, 1.15, 0.75, 0.75, 0.62),
    "hatchback": (3.9, 1.50, 0.86, 0.95, 0.08, 0.72, 0.45),
    "estate": (4.6, 1.50, 0.90, 1.15, 0.06, 0.72, 0.35),
    "suv": (4.5, 1.74, 0.95, 1.15, 0.06, 0.55, 0.28),
    "van": (4.9, 2.05, 0.97, 0.75, 0.03, 0.70, 0.10),
    "coupe": (4.3, 1.30, 0.90, 1.35, 0.35, 0.85, 0.85),
}


def draw_car(pen: Pen, paint: Color, rng: np.random.Generator) -> None:
    """A car of a random body style."""
    length, height, half, bonnet, boot, rake, back = CARS[
        str(rng.choice(tuple(CARS), p=(0.24, 0.3, 0.14, 0.16, 0.1, 0.06)))
    ]
    bonnet, rake = bonnet * rng.uniform(0.9, 1.1), rake * rng.uniform(0.9, 1.1)
    rear, front = -length / 2, length / 2
    belt, roof = 0.62 * height + 0.06, height
    cowl, deck = front - bonnet, rear + boot
    profile = np.array(
        [
            [rear + 0.06, 0.24, half * 0.96],
            [front - 0.06, 0.24, half * 0.96],
            [front, 0.5, half * 0.94],
            [front - 0.05, belt - 0.2, half * 0.92],
            [front - 0.2, belt - 0.1, half * 0.92],
            [cowl, belt, half * 0.98],
            [cowl - rake, roof, half * 0.76],
            [deck + back, roof, half * 0.76],
            [deck, belt + 0.04, half * 0.96],
            [rear + 0.04, belt, half * 0.94],
            [rear, 0.5, half * 0.94],
        ]
    )
    materials = ("under", "paint", "paint", "paint", "paint", "glass", "paint", "glass", "paint", "paint", "paint")
    axles = [rear + 0.78, front - 0.84]
    radius = 0.33 if height < 1.7 else 0.37
    _axles(pen, axles, half, radius)
    side = Body(profile, materials, paint).draw(pen)
    _lights(pen, (rear, front), belt - 0.33, half * 0.92, (0.36, 0.15))
    if side:
        _car_side(pen, paint, side, profile, half, (cowl, rake, deck, back, belt, roof))
    _wheels(pen, axles, side, half, radius, scale(paint, 0.4))


def _car_side(pen: Pen, paint: Color, side: float, profile: np.ndarray, half: float, shape: tuple[float, ...]) -> None:
    """Windows, shoulder line, sill, doors, handles and mirror."""
    cowl, rake, deck, back, belt, roof = shape
    shade = pen.shade((0, 0, side))
    ends = profile[0, 0], profile[1, 0]
    w = side * half
    pen.fill(rect(ends, (0.24, 0.38), w * 0.96), scale(paint, 0.55 * shade))
    shoulder = np.array(
        [
            [ends[0], belt - 0.12, w * 0.95],
            [cowl, belt - 0.12, w * 0.98],
            [cowl, belt - 0.05, w * 0.98],
            [ends[0], belt - 0.05, w * 0.95],
        ]
    )
    pen.fill(shoulder, scale(paint, min(1.0, shade) + 0.16))
    low, high = belt + 0.05, roof - 0.09
    lower, upper = w * 0.95, w * 0.79
    slope = (high - belt) / (roof - belt)
    front, rear = (cowl - 0.14, cowl - rake * slope - 0.1), (deck + 0.16, deck + back * slope + 0.1)
    pillar = (front[0] + rear[0]) / 2 - 0.1
    for begin, end in (((rear[0], rear[1]), (pillar - 0.05,) * 2), ((pillar + 0.05,) * 2, front)):
        pane = np.array([[begin[0], low, lower], [end[0], low, lower], [end[1], high, upper], [begin[1], high, upper]])
        pen.fill(pane, GLASS)
        pen.fill(_across(np.array([pane[0], pane[3], pane[2], pane[1]]), 0.25, 0.45), mix(GLASS, REFLECTION, 0.5))
    for u in (front[0] - 0.1, pillar, rear[0] + 0.2):
        pen.line(np.array([[u, belt, w * 0.97], [u, 0.4, w * 0.96]]), scale(paint, 0.5 * shade), 0.02)
    for u in (pillar + 0.12, rear[0] + 0.3):
        pen.fill(rect((u, u + 0.2), (belt - 0.2, belt - 0.15), w * 0.98), scale(paint, 0.4))
    pen.ball((front[0] - 0.1, belt + 0.06, side * (half + 0.06)), 0.11, scale(paint, 0.8))


def _box(ends: tuple[float, float], heights: tuple[float, float], half: float, paint: Color) -> Body:
    profile = np.array(
        [
            [ends[0], heights[0], half],
            [ends[1], heights[0], half],
            [ends[1], heights[1], half],
            [ends[0], heights[1], half],
        ]
    )
    return Body(profile, ("under", "paint", "paint", "paint"), paint)


def draw_truck(pen: Pen, paint: Color, rng: np.random.Generator) -> None:
    """A box truck: cab, gap, chassis and a ribbed cargo box."""
    length, height, half = rng.uniform(6.2, 8.4), rng.uniform(3.1, 3.7), 1.22
    rear, front = -length / 2, length / 2
    axles = [rear + 1.2, front - 1.0] if length < 7.4 else [rear + 0.9, rear + 1.95, front - 1.0]
    _axles(pen, axles, half, 0.5)
    _box((rear, front - 0.2), (0.55, 0.9), half * 0.8, CHASSIS).draw(pen)

    def cargo() -> None:
        side = _box((rear, front - 2.05), (0.95, height), half, scale(paint, 1.08)).draw(pen)
        if side:
            for u in np.linspace(rear + 0.12, front - 2.17, 9):
                pen.line(np.array([[u, 1.0, side * half], [u, height - 0.04, side * half]]), scale(paint, 0.72), 0.035)
            pen.fill(rect((rear, front - 2.05), (0.95, 1.08), side * half), scale(paint, 0.55))
        if pen.faces((-1, 0, 0), (rear, 1, 0)):
            for begin, end in ((-half + 0.08, -0.03), (0.03, half - 0.08)):
                pen.fill(plate(rear - 0.01, (1.1, height - 0.1), (begin, end)), scale(paint, 0.85))
            for w in (-0.14, 0.14):
                pen.line(np.array([[rear - 0.02, 1.15, w], [rear - 0.02, height - 0.2, w]]), RIM, 0.04)

    def cab() -> None:
        top = min(height - 0.35, 2.75)
        profile = np.array(
            [
                [front - 1.9, 0.5, half * 0.95],
                [front - 0.04, 0.5, half * 0.95],
                [front, 1.45, half * 0.95],
                [front - 0.22, top - 0.12, half * 0.88],
                [front - 0.5, top, half * 0.86],
                [front - 1.9, top, half * 0.88],
            ]
        )
        side = Body(profile, ("under", "paint", "glass", "paint", "paint", "paint"), paint).draw(pen)
        if side:
            w = side * half * 0.95
            pane = np.array(
                [
                    [front - 1.35, 1.5, w],
                    [front - 0.14, 1.5, w],
                    [front - 0.34, top - 0.25, w * 0.95],
                    [front - 1.35, top - 0.25, w * 0.95],
                ]
            )
            pen.fill(pane, GLASS)
            pen.fill(_across(pane[[0, 3, 2, 1]], 0.2, 0.45), mix(GLASS, REFLECTION, 0.5))
            pen.line(rect((front - 1.45, front - 0.1), (0.7, top - 0.15), w), scale(paint, 0.55), 0.025, closed=True)
        if pen.faces((1, 0, 0), (front, 1, 0)):
            pen.fill(plate(front + 0.01, (0.95, 1.3), (-0.7, 0.7)), RUBBER)
            for v in (1.05, 1.17):
                pen.line(plate(front + 0.02, (v, v), (-0.68, 0.68))[[0, 2]], RIM, 0.03)

    for part in (cargo, cab) if pen.viewer[0] > front - 2 else (cab, cargo):
        part()
    _lights(pen, (rear, front), 0.62, half * 0.93, (0.38, 0.2))
    side = 1.0 if pen.faces((0, 0, 1), (0, 0, half)) else -1.0 if pen.faces((0, 0, -1), (0, 0, -half)) else 0.0
    _wheels(pen, axles, side, half, 0.5, CHASSIS)


def draw_bus(pen: Pen, paint: Color, rng: np.random.Generator) -> None:
    """A city bus: a long box with a row of large windows, doors and a lit destination board."""
    length, height, half = rng.uniform(9.0, 12.0), rng.uniform(2.9, 3.2), 1.25
    rear, front = -length / 2, length / 2
    axles = [rear + 2.4, front - 2.4]
    _axles(pen, axles, half, 0.48)
    profile = np.array(
        [
            [rear, 0.3, half],
            [front, 0.3, half],
            [front + 0.04, 1.15, half],
            [front - 0.12, height - 0.45, half * 0.98],
            [front - 0.2, height, half * 0.95],
            [rear + 0.15, height, half * 0.95],
            [rear, height - 0.3, half],
        ]
    )
    materials = ("under", "paint", "glass", "paint", "paint", "paint", "paint")
    side = Body(profile, materials, paint).draw(pen)
    if side:
        w = side * half
        shade = pen.shade((0, 0, side))
        pen.fill(rect((rear, front), (0.3, 0.5), w), scale(paint, 0.5 * shade))
        pen.fill(rect((rear + 0.25, front - 0.1), (1.22, height - 0.5), w), (30, 36, 42))
        count = int(length / 1.35)
        edges = np.linspace(rear + 0.3, front - 0.15, count + 1)
        panes = np.stack([rect((a + 0.05, b - 0.05), (1.28, height - 0.56), w) for a, b in itertools.pairwise(edges)])
        pen.fill_all(panes, mix(GLASS, REFLECTION, 0.3))
        pen.fill_all(np.stack([_across(pane[[0, 3, 2, 1]], 0.2, 0.4) for pane in panes]), mix(GLASS, REFLECTION, 0.7))
        if side < 0:
            for u in (front - 1.4, -0.6):
                for begin in (u, u + 0.6):
                    pen.fill(rect((begin + 0.03, begin + 0.57), (0.42, height - 0.5), w), scale(paint, 0.35))
                    pen.fill(rect((begin + 0.1, begin + 0.5), (0.6, height - 0.6), w), mix(GLASS, REFLECTION, 0.45))
        pen.fill(rect((rear, front), (0.95, 1.03), w), scale(paint, 1.35))
    if pen.faces((1, 0, 0), (front, 1, 0)):
        pen.fill(plate(front - 0.08, (height - 0.42, height - 0.1), (-half * 0.8, half * 0.8)), (24, 24, 24))
        pen.fill(plate(front - 0.07, (height - 0.34, height - 0.19), (-half * 0.6, half * 0.5)), (250, 170, 40))
    if pen.faces((-1, 0, 0), (rear, 1, 0)):
        pen.fill(plate(rear - 0.01, (1.5, height - 0.45), (-half * 0.82, half * 0.82)), GLASS)
        pen.fill(plate(rear - 0.01, (0.6, 1.0), (-half * 0.55, half * 0.55)), scale(paint, 0.5))
    _lights(pen, (rear, front), 0.6, half, (0.36, 0.24))
    _wheels(pen, axles, side, half, 0.48, scale(paint, 0.35))


def draw_train(pen: Pen, paint: Color, rng: np.random.Generator) -> None:
    """A tram: articulated, rounded noses, a pale window band, skirts down to the rails and a pantograph."""
    length, height, half = rng.uniform(15.0, 20.0), 3.3, 1.22
    rear, front = -length / 2, length / 2
    pale = (226, 224, 214) if max(paint) - min(paint) > 60 or max(paint) < 90 else (196, 60, 50)
    _pantograph(pen, height)
    profile = np.array(
        [
            [rear + 0.2, 0.12, half * 0.8],
            [front - 0.2, 0.12, half * 0.8],
            [front, 0.9, half * 0.82],
            [front - 0.15, 1.4, half * 0.8],
            [front - 1.0, height - 0.35, half * 0.74],
            [front - 1.7, height, half * 0.74],
            [rear + 1.7, height, half * 0.74],
            [rear + 1.0, height - 0.35, half * 0.74],
            [rear + 0.15, 1.4, half * 0.8],
            [rear, 0.9, half * 0.82],
        ]
    )
    materials = ("under", "paint", "paint", "glass", "paint", "paint", "paint", "glass", "paint", "paint")
    side = Body(profile, materials, paint).draw(pen)
    middle = _box((rear + 1.9, front - 1.9), (0.12, height), half * 0.82, paint)
    if side:
        middle.draw(pen)
        w = side * half * 0.82
        pen.fill(rect((rear + 0.25, front - 0.25), (1.28, 1.4), w), pale)
        pen.fill(rect((rear + 1.2, front - 1.2), (1.4, height - 0.6), w), (34, 40, 46))
        edges = np.linspace(rear + 1.3, front - 1.3, int(length / 1.5) + 1)
        panes = np.stack([rect((a + 0.07, b - 0.07), (1.46, height - 0.68), w) for a, b in itertools.pairwise(edges)])
        pen.fill_all(panes, mix(GLASS, REFLECTION, 0.35))
        pen.fill(rect((rear + 1.5, front - 1.5), (height - 0.2, height), w), (150, 150, 152))
        pen.fill(rect((rear + 0.3, front - 0.3), (0.12, 0.4), w), CHASSIS)
        for begin in edges[1::3]:
            pen.fill(rect((begin + 0.1, begin + 0.65), (0.4, height - 0.5), w), scale(paint, 0.6))
            pen.fill(rect((begin + 0.18, begin + 0.57), (0.7, height - 0.6), w), mix(GLASS, REFLECTION, 0.5))
        for u in (rear + length / 3, front - length / 3):
            pen.fill(rect((u - 0.22, u + 0.22), (0.15, height), w), (58, 58, 62))
            for offset in (-0.1, 0.0, 0.1):
                pen.line(np.array([[u + offset, 0.2, w], [u + offset, height, w]]), (36, 36, 38), 0.04)
    for u, normal, color in ((front, 1, HEADLIGHT), (rear, -1, TAILLIGHT)):
        if pen.faces((normal, 0, 0), (u, 1, 0)):
            for w in (-0.62, 0.62):
                pen.ball((u, 0.85, w), 0.14, color)
            pen.fill(plate(u, (0.95, 1.12), (-0.4, 0.4)), pale)
            pen.fill(plate(u - normal * 1.1, (height - 0.34, height - 0.1), (-0.5, 0.5)), (250, 170, 40))


def _pantograph(pen: Pen, height: float) -> None:
    for w in (-0.35, 0.35):
        pen.line(np.array([[-0.9, height, w], [0.4, height + 0.7, w], [-0.5, height + 1.3, w]]), CHASSIS, 0.07)
    pen.line(np.array([[-0.5, height + 1.32, -0.8], [-0.5, height + 1.32, 0.8]]), CHASSIS, 0.09)
