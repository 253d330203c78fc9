"""Vehicles, people and two-wheelers, each standing at (x, y) with a height; `flip` is -1 to face left."""

from __future__ import annotations

import math

import numpy as np

from instsynth_dagster.demo_city.attributes import PAINT, Attributes
from instsynth_dagster.demo_city.canvas import Canvas, Color, Point, shade

TIRE: Color = (28, 28, 30)
GLASS: Color = (120, 150, 172)
SKIN: Color = (214, 168, 138)
DARK: Color = (52, 54, 62)


def draw_figure(
    canvas: Canvas, kind: Attributes, x: float, y: float, height: float, value: int, flip: int, rng: np.random.Generator
) -> None:
    """Draw an instance whose feet or wheels stand at (x, y)."""
    paint = PAINT[kind.color]
    if kind.class_name == "car":
        _car(canvas, paint, x, y, height, value, flip, rng)
    elif kind.class_name in ("bus", "train"):
        _coach(canvas, paint, x, y, height, value, rng, rails=kind.class_name == "train")
    elif kind.class_name == "truck":
        _truck(canvas, paint, x, y, height, value, flip)
    elif kind.class_name == "person":
        _person(canvas, paint, x, y, height, value, kind.variant == "woman", rng)
    elif kind.class_name == "rider":
        _rider(canvas, paint, x, y, height, value, flip, kind.variant == "female")
    else:
        _two_wheeler(canvas, paint, x, y, height, value, flip, motor=kind.class_name == "motorcycle")


def _wheel(canvas: Canvas, x: float, y: float, radius: float, value: int) -> None:
    canvas.disc(x, y - radius, radius, TIRE, value)
    canvas.disc(x, y - radius, radius * 0.55, (150, 152, 156), value)
    canvas.disc(x, y - radius, radius * 0.2, TIRE, value)


def _car(
    canvas: Canvas, paint: Color, x: float, y: float, h: float, value: int, flip: int, rng: np.random.Generator
) -> None:
    long, back = h * rng.uniform(2.4, 2.9), rng.uniform(0.3, 0.46)

    def at(u: float, v: float) -> Point:
        return x + flip * u * long, y - v * h

    body = [(-0.5, 0.2), (-0.5, 0.5), (-back, 0.58), (0.24, 0.58), (0.46, 0.48), (0.5, 0.2)]
    canvas.polygon([at(u, v) for u, v in body], paint, value)
    canvas.polygon([at(-back, 0.56), at(-back + 0.1, 1), at(0.1, 1), at(0.26, 0.56)], shade(paint, 0.85), value)
    canvas.polygon([at(-back + 0.06, 0.6), at(-back + 0.13, 0.93), at(-0.05, 0.93), at(-0.05, 0.6)], GLASS, value)
    canvas.polygon([at(-0.02, 0.6), at(-0.02, 0.93), at(0.08, 0.93), at(0.2, 0.6)], shade(GLASS, 1.15), value)
    canvas.polygon([at(-0.5, 0.2), at(-0.5, 0.3), at(0.5, 0.3), at(0.5, 0.2)], shade(paint, 0.6), value)
    canvas.line([at(-0.03, 0.3), at(-0.03, 0.57)], h * 0.02, shade(paint, 0.55), value)
    canvas.disc(*at(0.47, 0.42), h * 0.05, (255, 240, 190), value)
    canvas.disc(*at(-0.48, 0.44), h * 0.045, (190, 30, 30), value)
    for u in (-0.3, 0.3):
        _wheel(canvas, *at(u, 0), h * 0.2, value)


def _coach(
    canvas: Canvas, paint: Color, x: float, y: float, h: float, value: int, rng: np.random.Generator, rails: bool
) -> None:
    """A bus, or with `rails` a tram: longer, rounded at both ends, pantograph, hidden wheels."""
    long = h * (rng.uniform(3.4, 4.2) if rails else rng.uniform(2.2, 2.6))
    left, right = x - long / 2, x + long / 2
    if rails:
        nose = h * 0.16
        top = [(left + nose, y - h), (right - nose, y - h), (right, y - 0.5 * h), (right, y - 0.08 * h)]
        canvas.line([(x - h * 0.3, y - h), (x, y - 1.2 * h), (x + h * 0.3, y - h)], h * 0.03, DARK, value)
        canvas.polygon([*top, (left, y - 0.08 * h), (left, y - 0.5 * h)], paint, value)
        canvas.box(left + nose / 2, y - 0.4 * h, right - nose / 2, y - 0.33 * h, shade(paint, 1.5), value)
        canvas.box(left + nose, y - 0.1 * h, right - nose, y, DARK, value)
    else:
        canvas.box(left, y - h, right, y - 0.12 * h, paint, value)
        canvas.box(left, y - h, right, y - 0.94 * h, shade(paint, 0.7), value)
        canvas.box(left, y - 0.28 * h, right, y - 0.12 * h, shade(paint, 0.65), value)
    panes = 8 if rails else 6
    width = (long - 0.3 * h) / panes
    for index in range(panes):
        start = left + 0.15 * h + index * width
        tone = shade(GLASS, 0.9 + 0.25 * ((index * 7) % 3) / 2)
        canvas.box(start + 0.06 * width, y - 0.86 * h, start + 0.94 * width, y - 0.5 * h, tone, value)
    door = left + 0.15 * h + width * (panes // 2)
    canvas.box(door + 0.1 * width, y - 0.86 * h, door + 0.9 * width, y - 0.14 * h, shade(GLASS, 0.7), value)
    if not rails:
        for u in (-0.32, 0.34):
            _wheel(canvas, x + u * long, y, h * 0.13, value)


def _truck(canvas: Canvas, paint: Color, x: float, y: float, h: float, value: int, flip: int) -> None:
    long = h * 2.1

    def at(u: float, v: float) -> Point:
        return x + flip * u * long, y - v * h

    canvas.polygon([at(-0.5, 0.22), at(-0.5, 1), at(0.2, 1), at(0.2, 0.22)], paint, value)
    for u in (-0.4, -0.25, -0.1, 0.05):
        canvas.line([at(u, 0.26), at(u, 0.96)], h * 0.012, shade(paint, 0.75), value)
    canvas.polygon(
        [at(0.23, 0.16), at(0.23, 0.8), at(0.42, 0.8), at(0.5, 0.5), at(0.5, 0.16)], shade(paint, 0.8), value
    )
    canvas.polygon([at(0.3, 0.5), at(0.3, 0.74), at(0.41, 0.74), at(0.47, 0.5)], GLASS, value)
    canvas.polygon([at(-0.5, 0.14), at(-0.5, 0.22), at(0.5, 0.22), at(0.5, 0.14)], DARK, value)
    canvas.disc(*at(0.48, 0.28), h * 0.035, (255, 240, 190), value)
    for u in (-0.38, -0.2, 0.36):
        _wheel(canvas, *at(u, 0), h * 0.14, value)


def _person(
    canvas: Canvas, paint: Color, x: float, y: float, h: float, value: int, woman: bool, rng: np.random.Generator
) -> None:
    stride, swing = rng.uniform(0.04, 0.13) * h, rng.uniform(0.05, 0.16) * h
    trousers = shade(DARK, rng.uniform(0.7, 1.4))
    hip = y - 0.48 * h
    for side in (-1, 1):
        canvas.line([(x, hip), (x + side * stride, y - 0.02 * h)], 0.09 * h, trousers, value)
        canvas.line([(x + side * stride, y), (x + side * stride + 0.05 * h, y)], 0.04 * h, TIRE, value)
    hem, half = (y - 0.3 * h, 0.19 * h) if woman else (y - 0.44 * h, 0.12 * h)
    top = y - 0.82 * h
    hair = shade((90, 60, 36), rng.uniform(0.5, 1.8))
    if woman:
        canvas.polygon(
            [
                (x - 0.1 * h, y - 0.95 * h),
                (x + 0.1 * h, y - 0.95 * h),
                (x + 0.12 * h, y - 0.7 * h),
                (x - 0.12 * h, y - 0.7 * h),
            ],
            hair,
            value,
        )
    canvas.polygon([(x - 0.12 * h, top), (x + 0.12 * h, top), (x + half, hem), (x - half, hem)], paint, value)
    for side in (-1, 1):
        hand = (x + side * (0.14 * h + swing / 2), y - 0.46 * h)
        canvas.line([(x + side * 0.12 * h, top + 0.04 * h), hand], 0.07 * h, shade(paint, 0.78), value)
        canvas.disc(*hand, 0.03 * h, SKIN, value)
    canvas.disc(x, y - 0.9 * h, 0.075 * h, SKIN, value)
    canvas.disc(x, y - 0.945 * h, 0.07 * h, hair, value, squash=1.15 if woman else 1.0)


def _rider(canvas: Canvas, paint: Color, x: float, y: float, h: float, value: int, flip: int, female: bool) -> None:
    """Sits on the two-wheeler of the same (x, y) and of 0.55 of the height."""

    def at(u: float, v: float) -> Point:
        return x + flip * u * h, y - v * h

    canvas.line([at(-0.08, 0.55), at(0.1, 0.38), at(0.02, 0.14)], 0.08 * h, DARK, value)
    canvas.polygon([at(-0.16, 0.54), at(-0.02, 0.52), at(0.14, 0.8), at(-0.02, 0.84)], paint, value)
    canvas.line([at(0.06, 0.76), at(0.26, 0.54)], 0.06 * h, shade(paint, 0.78), value)
    if female:
        canvas.polygon([at(-0.02, 0.95), at(0.06, 0.95), at(0.0, 0.7), at(-0.08, 0.72)], (110, 70, 40), value)
    canvas.disc(*at(0.09, 0.9), 0.07 * h, SKIN, value)
    canvas.disc(*at(0.07, 0.94), 0.075 * h, shade(paint, 0.6), value)


def _two_wheeler(
    canvas: Canvas, paint: Color, x: float, y: float, h: float, value: int, flip: int, motor: bool
) -> None:
    def at(u: float, v: float) -> Point:
        return x + flip * u * h, y - v * h

    radius = 0.32 * h if motor else 0.36 * h
    hubs = [at(-0.55, radius / h), at(0.55, radius / h)]
    for hub in hubs:
        canvas.ring(*hub, radius * 0.88, radius * (0.34 if motor else 0.16), TIRE, value)
        for spoke in range(0 if motor else 4):
            dx, dy = math.cos(spoke * math.pi / 4) * radius, math.sin(spoke * math.pi / 4) * radius
            canvas.line([(hub[0] - dx, hub[1] - dy), (hub[0] + dx, hub[1] + dy)], 0.015 * h, (170, 170, 174), value)
    if motor:
        canvas.polygon(
            [at(-0.5, 0.5), at(-0.1, 0.5), at(0.1, 0.75), at(0.38, 0.72), at(0.3, 0.4), at(-0.2, 0.3)], paint, value
        )
        canvas.polygon([at(-0.25, 0.2), at(-0.2, 0.42), at(0.22, 0.42), at(0.18, 0.2)], (120, 122, 128), value)
        canvas.polygon([at(-0.62, 0.62), at(-0.55, 0.74), at(0.02, 0.66), at(0, 0.58)], TIRE, value)
        canvas.line([hubs[1], at(0.34, 0.86), at(0.24, 0.92)], 0.06 * h, (150, 152, 158), value)
        canvas.disc(*at(0.4, 0.72), 0.07 * h, (255, 240, 190), value)
        return
    seat, head, pedal = at(-0.22, 0.74), at(0.36, 0.74), at(-0.04, 0.32)
    for a, b in ((hubs[0], seat), (hubs[0], pedal), (seat, pedal), (pedal, head), (seat, head), (head, hubs[1])):
        canvas.line([a, b], 0.075 * h, paint, value)
    canvas.line([at(-0.34, 0.8), at(-0.1, 0.8)], 0.07 * h, TIRE, value)
    canvas.line([head, at(0.32, 0.92), at(0.46, 0.96)], 0.05 * h, TIRE, value)
