"""People on foot and on two wheels, bicycles and motorcycles, jointed and drawn in three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from instsynth_dagster.demo.city.canvas import Pen, circle
from instsynth_dagster.demo.city.palette import Color, mix, scale
from instsynth_dagster.demo.city.vehicles import CHASSIS, HEADLIGHT, RIM, RUBBER, TAILLIGHT

SKIN: tuple[Color, ...] = ((238, 196, 164), (214, 160, 122), (160, 108, 76), (112, 74, 54))
HAIR: tuple[Color, ...] = ((40, 28, 22), (92, 58, 34), (206, 164, 84), (150, 72, 34))
TROUSERS: tuple[Color, ...] = ((42, 48, 72), (58, 56, 56), (104, 92, 76), (30, 32, 38))
TIGHTS: tuple[Color, ...] = ((52, 44, 48), (222, 178, 148), (84, 70, 74))
SHOES: Color = (34, 28, 26)


def draw_person(pen: Pen, cloth: Color, variant: str, rng: np.random.Generator) -> None:
    """A walking or standing person: a man in a jacket and trousers, or a woman with long hair in a long coat."""
    woman = variant == "woman"
    stride = rng.uniform(0.0, 0.38) * rng.choice([-1, 1])
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    legs = (TIGHTS if woman else TROUSERS)[rng.integers(3)]
    shoulder = 0.17 if woman else 0.22
    near = 1.0 if pen.viewer[2] > 0 else -1.0
    for side in (-near, near):
        _leg(pen, side * 0.09, stride * side, legs, 0.062 if woman else 0.082)
    _arm(pen, (0.0, 1.42, -near * shoulder), stride * near, scale(cloth, 0.85), skin, woman)
    _trunk(pen, cloth, woman, shoulder)
    _arm(pen, (0.0, 1.42, near * shoulder), -stride * near, cloth, skin, woman)
    if woman:
        pen.limb((-0.05, 1.66, 0), (-0.08, 1.36, 0), (0.115, 0.10), hair)
    pen.limb((0, 1.46, 0), (0, 1.56, 0), (0.055, 0.05), skin)
    _head(pen, (0.02, 1.64, 0.0), skin, hair, woman)
    if rng.random() < 0.3:
        bag = (158, 84, 40) if woman else (64, 58, 52)
        pen.limb((0.02, 0.92, near * 0.27), (0.02, 0.78, near * 0.27), (0.10, 0.12), bag)


def _trunk(pen: Pen, cloth: Color, woman: bool, shoulder: float) -> None:
    if woman:
        pen.limb((0, 1.1, 0), (0, 0.62, 0), (0.17, 0.275), cloth)
        pen.limb((0, 1.36, 0), (0, 1.05, 0), (shoulder - 0.01, 0.15), cloth)
        pen.line(np.array([[0.0, 1.08, -0.16], [0.0, 1.08, 0.16]]), scale(cloth, 0.45), 0.05)
        return
    corners = ((0, 1.38, -0.12), (0, 1.38, 0.12), (0, 0.93, 0.07), (0, 0.93, -0.07))
    pen.mass(corners, (0.12, 0.12, 0.13, 0.13), cloth)
    if pen.faces((1, 0, 0), (0.1, 1.2, 0)):
        pen.line(np.array([[0.12, 1.44, 0], [0.12, 0.86, 0]]), scale(cloth, 0.5), 0.025)


def _arm(pen: Pen, shoulder: tuple[float, float, float], swing: float, cloth: Color, skin: Color, slim: bool) -> None:
    u, v, w = shoulder
    elbow = (u + swing * 0.55, v - 0.29, w * 1.25)
    hand = (u + swing * 1.0 + 0.06, v - 0.54, w * 1.25)
    radius = 0.05 if slim else 0.066
    pen.limb(shoulder, elbow, (radius * 1.15, radius), cloth)
    pen.limb(elbow, hand, (radius, radius * 0.8), cloth)
    pen.ball(hand, 0.045, skin)


def _leg(pen: Pen, w: float, swing: float, color: Color, radius: float) -> None:
    knee = (swing * 0.6 + 0.04, 0.49, w)
    foot = (swing * 1.1 - 0.03, 0.08, w)
    pen.limb((0, 0.9, w), knee, (radius * 1.25, radius), color)
    pen.limb(knee, foot, (radius, radius * 0.72), color)
    pen.limb(foot, (foot[0] + 0.14, 0.045, w), (0.055, 0.042), SHOES)


def _head(pen: Pen, center: tuple[float, float, float], skin: Color, hair: Color, long_hair: bool) -> None:
    u, v, w = center
    front = pen.faces((1, 0, 0), center)
    pen.limb((u, v - 0.045, w), (u, v + 0.03, w), (0.082, 0.1), skin)
    if front:
        pen.limb((u - 0.035, v + 0.075, w), (u + 0.01, v + 0.085, w), (0.085, 0.075), hair)
        if long_hair:
            for side in (-0.085, 0.085):
                pen.limb((u - 0.02, v + 0.06, w + side), (u - 0.02, v - 0.22, w + side), (0.042, 0.045), hair)
    else:
        pen.limb((u - 0.02, v + 0.05, w), (u - 0.035, v - 0.02 - 0.16 * long_hair, w), (0.105, 0.1), hair)


def draw_rider(pen: Pen, cloth: Color, variant: str, rng: np.random.Generator, motorcycle: bool) -> None:
    """The rider of a two-wheeler that was drawn before at the same place and heading."""
    woman = variant == "female"
    skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
    legs = TROUSERS[rng.integers(len(TROUSERS))]
    seat, grip = ((-0.2, 0.85), (0.42, 1.0)) if motorcycle else ((-0.2, 1.0), (0.42, 1.06))
    lean = rng.uniform(0.12, 0.26) if not motorcycle else rng.uniform(0.05, 0.2)
    chest = (seat[0] + lean, seat[1] + 0.46, 0.0)
    near = 1.0 if pen.viewer[2] > 0 else -1.0
    shoulder = 0.16 if woman else 0.2
    for side in (-near, near):
        pedal = (0.12, 0.32, side * 0.16) if motorcycle else (0.02 + 0.16 * side, 0.3 + 0.13 * side, side * 0.12)
        knee = (0.26, 0.5 * (seat[1] + pedal[1]) + 0.12, side * (0.22 if motorcycle else 0.13))
        pen.limb((seat[0], seat[1], side * 0.1), knee, (0.1, 0.075), legs)
        pen.limb(knee, pedal, (0.075, 0.055), legs)
        pen.limb(pedal, (pedal[0] + 0.13, pedal[1] - 0.02, pedal[2]), (0.055, 0.042), SHOES)
        if side == -near:
            hips, width = seat[1] + 0.06, shoulder * 0.5
            corners = [(chest[0], chest[1] + 0.04, w) for w in (-width, width)]
            corners += [(seat[0], hips, w * 0.6) for w in (-width, width)]
            pen.mass(corners, (0.13, 0.13, 0.12, 0.12), cloth)
        elbow = (0.5 * (chest[0] + grip[0]), 0.5 * (chest[1] + grip[1]) - 0.08, side * 0.28)
        sleeve = cloth if side == near else scale(cloth, 0.85)
        pen.limb((chest[0], chest[1] + 0.08, side * shoulder), elbow, (0.07, 0.06), sleeve)
        pen.limb(elbow, (grip[0], grip[1], side * 0.25), (0.06, 0.045), sleeve)
        pen.ball((grip[0], grip[1], side * 0.25), 0.045, skin)
    head = (chest[0] + 0.07, chest[1] + 0.34, 0.0)
    if woman:
        pen.limb((head[0] - 0.07, head[1], 0), (head[0] - 0.16, head[1] - 0.3, 0), (0.1, 0.06), hair)
    pen.limb((chest[0] + 0.02, chest[1] + 0.14, 0), head, (0.055, 0.05), skin)
    _head(pen, head, skin, hair, woman)
    if motorcycle or rng.random() < 0.6:
        helmet = (46, 46, 52) if motorcycle else (226, 226, 222)
        grow = 0.035 if motorcycle else 0.0
        pen.limb((head[0] - 0.03, head[1] + 0.05, 0), (head[0], head[1] + 0.07, 0), (0.1 + grow, 0.105 + grow), helmet)


def _wheel(pen: Pen, u: float, radius: float, tyre: float, spokes: int, turn: float) -> None:
    rim = circle(u, radius, 0, radius - tyre / 2)
    pen.cover(circle(u, radius, 0, radius))
    angles = turn + np.arange(spokes) * np.pi / spokes
    for cos, sin in zip(np.cos(angles) * radius * 0.92, np.sin(angles) * radius * 0.92, strict=True):
        pen.line(np.array([[u - cos, radius - sin, 0], [u + cos, radius + sin, 0]]), (168, 170, 174), 0.012)
    pen.line(rim, RUBBER, tyre, closed=True)
    pen.line(circle(u, radius, 0, radius - tyre * 1.2), RIM, tyre * 0.35, closed=True)


def _tube(pen: Pen, points: Sequence[Sequence[float]], color: Color, width: float) -> None:
    pen.line(np.array(points, float), color, width)


def draw_bicycle(pen: Pen, paint: Color, rng: np.random.Generator) -> None:
    """A bicycle: spoked wheels, a coloured diamond or step-through frame, saddle, handlebar and pedals."""
    turn = rng.uniform(0, np.pi)
    for u in (-0.53, 0.53):
        _wheel(pen, u, 0.345, 0.05, 7, turn)
    crank, seat, head, fork = (-0.08, 0.3, 0), (-0.22, 0.82, 0), (0.34, 0.86, 0), (0.53, 0.345, 0)
    hub = (-0.53, 0.345, 0)
    pen.cover(np.array([hub, crank, fork, head, seat], float))
    top = seat if rng.random() < 0.6 else (-0.17, 0.56, 0)
    for points in ((hub, crank, head), (hub, top, head), (crank, seat), (head, fork)):
        _tube(pen, points, scale(paint, 0.7), 0.085)
        _tube(pen, points, scale(paint, 1.05), 0.06)
    for u in (-0.53, 0.53):
        pen.line(circle(u, 0.345, 0, 0.385)[3:12], paint, 0.05)
    _tube(pen, (seat, (-0.24, 0.95, 0)), RIM, 0.035)
    pen.limb((-0.36, 0.97, 0), (-0.1, 0.97, 0), (0.06, 0.035), RUBBER)
    _tube(pen, (head, (0.36, 1.02, 0)), RIM, 0.04)
    _tube(pen, ((0.3, 1.05, -0.28), (0.38, 1.03, 0), (0.3, 1.05, 0.28)), CHASSIS, 0.045)
    pen.disk(crank[0], crank[1], 0, 0.09, CHASSIS, 12)
    for side in (-1, 1):
        pedal = (crank[0] + 0.12 * side, crank[1] + 0.1 * side, 0.1 * side)
        _tube(pen, (crank, pedal), RIM, 0.03)
        _tube(pen, (pedal, (pedal[0] + 0.08, pedal[1], pedal[2])), RUBBER, 0.05)
    pen.ball((0.42, 0.9, 0), 0.05, HEADLIGHT)
    pen.ball((-0.62, 0.72, 0), 0.035, TAILLIGHT)


def draw_motorcycle(pen: Pen, paint: Color, rng: np.random.Generator) -> None:
    """A motorcycle or scooter: fat wheels, engine, coloured tank and fairings, long seat and exhaust."""
    for u in (-0.68, 0.7):
        _wheel(pen, u, 0.32, 0.15, 5, rng.uniform(0, 1))
        pen.line(circle(u, 0.32, 0, 0.4)[1:11], paint, 0.1)
    scooter = rng.random() < 0.3
    _tube(pen, ((0.7, 0.32, 0), (0.42, 0.95, 0)), RIM, 0.1)
    _tube(pen, ((-0.68, 0.32, 0), (-0.15, 0.42, 0)), CHASSIS, 0.12)
    pen.limb((-0.2, 0.38, 0), (0.22, 0.4, 0), (0.17, 0.19), CHASSIS)
    if scooter:
        pen.limb((0.5, 0.95, 0), (0.4, 0.35, 0), (0.13, 0.15), paint)
        pen.limb((0.35, 0.3, 0), (-0.3, 0.32, 0), (0.1, 0.14), paint)
        pen.limb((-0.15, 0.6, 0), (-0.75, 0.62, 0), (0.17, 0.14), paint)
    else:
        pen.limb((0.28, 0.76, 0), (-0.08, 0.7, 0), (0.19, 0.14), paint)
        pen.limb((0.42, 0.62, 0), (0.12, 0.45, 0), (0.14, 0.1), scale(paint, 0.9))
        pen.limb((-0.5, 0.66, 0), (-0.85, 0.74, 0), (0.13, 0.08), paint)
        for u in (-0.05, 0.06, 0.17):
            _tube(pen, ((u, 0.32, 0), (u, 0.5, 0)), mix(RIM, CHASSIS, 0.4), 0.04)
    pen.limb((-0.05, 0.8, 0), (-0.7, 0.83, 0), (0.09, 0.075), RUBBER)
    near = 0.14 if pen.viewer[2] > 0 else -0.14
    pen.limb((0.1, 0.28, near), (-0.85, 0.36, near), (0.045, 0.075), RIM)
    pen.limb((0.55, 0.85, 0), (0.46, 0.98, 0), (0.13, 0.11), paint)
    pen.ball((0.62, 0.86, 0), 0.095, HEADLIGHT if pen.faces((1, 0, 0), (0.6, 0.9, 0)) else paint)
    _tube(pen, ((0.36, 1.04, -0.34), (0.44, 1.0, 0), (0.36, 1.04, 0.34)), CHASSIS, 0.06)
    for side in (-0.3, 0.3):
        _tube(pen, ((0.4, 1.03, side), (0.42, 1.18, side * 1.1)), CHASSIS, 0.03)
        pen.ball((0.42, 1.2, side * 1.1), 0.06, CHASSIS)
    pen.ball((-0.9, 0.72, 0), 0.06, TAILLIGHT)
