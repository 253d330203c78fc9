"""Everything without instances: sky, ground, buildings, trees and street furniture."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.city.canvas import Canvas, Light, Pen
from instsynth_dagster.demo.city.palette import Color, mix, scale

_ID = {name: label.id for name, label in CITYSCAPES.by_name.items()}
FAR = 140.0
FACADES: tuple[Color, ...] = (
    (198, 178, 150),
    (176, 128, 104),
    (206, 196, 178),
    (150, 146, 142),
    (186, 160, 116),
    (158, 104, 84),
    (170, 178, 182),
    (214, 202, 160),
)
LEAVES: tuple[Color, ...] = ((74, 112, 52), (92, 124, 56), (58, 96, 58), (120, 122, 52))
STEEL: Color = (112, 116, 120)


@dataclass(frozen=True)
class Street:
    """Road edges (x), sidewalk width, and the crossing street's near and far edges (z)."""

    left: float
    right: float
    sidewalk: float
    crossing: tuple[float, float]

    def open(self, z: float) -> bool:
        """Whether the crossing street passes at this distance."""
        return self.crossing[0] - 2 < z < self.crossing[1] + 2


def draw_light(rng: np.random.Generator) -> Light:
    """Random weather: noon, evening, overcast or rain."""
    name = str(rng.choice(("noon", "evening", "overcast", "rain"), p=(0.4, 0.2, 0.25, 0.15)))
    sun = np.array([rng.choice([-1, 1]) * rng.uniform(0.3, 0.8), rng.uniform(0.6, 1.0), -rng.uniform(0.2, 0.7)])
    ambient = {"noon": 0.72, "evening": 0.7, "overcast": 0.84, "rain": 0.82}[name]
    haze, tint = {
        "noon": ((196, 214, 230), (1.0, 1.0, 1.0)),
        "evening": ((232, 202, 172), (1.03, 0.98, 0.92)),
        "overcast": ((200, 204, 208), (0.95, 0.96, 0.98)),
        "rain": ((172, 180, 190), (0.86, 0.9, 0.95)),
    }[name]
    density = {"noon": 0.003, "evening": 0.004, "overcast": 0.006, "rain": 0.010}[name]
    return Light(name, sun / np.linalg.norm(sun), ambient, haze, density, tint)


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """A gradient down to the haze at the horizon, with soft clouds."""
    top = {"noon": (92, 146, 214), "evening": (128, 134, 178), "overcast": (166, 174, 184), "rain": (128, 138, 150)}
    height, width = canvas.ids.shape
    share = np.clip(np.arange(height) / canvas.camera.center[1], 0, 1)[:, None] ** 1.3
    column = np.array(top[canvas.light.name]) * (1 - share) + np.array(canvas.light.haze) * share
    canvas.image[:] = np.round(column).astype(np.uint8)[:, None]
    canvas.ids[:] = _ID["sky"]
    small = np.zeros((height // 8, width // 8), np.uint8)
    for _ in range(rng.integers(2, 9)):
        x, y = rng.uniform(0, width / 8), rng.uniform(0, canvas.camera.center[1] / 10)
        for _ in range(6):
            at = (int(x + rng.normal(0, width / 110)), int(y + rng.normal(0, height / 260)))
            cv2.ellipse(
                small, at, (int(rng.uniform(3, max(width / 90, 3))), int(rng.uniform(1, 4))), 0, 0, 360, 200, -1
            )
    cover = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.6), (width, height), interpolation=cv2.INTER_LINEAR)
    sky = slice(0, int(canvas.camera.center[1]) + 1)
    alpha = cover[sky, :, None].astype(np.float32) / 255 * 0.75
    white = np.array(mix(canvas.light.haze, (255, 255, 255), 0.6), np.float32)
    canvas.image[sky] = (canvas.image[sky] * (1 - alpha) + white * alpha).astype(np.uint8)


def _ground(canvas: Canvas, x: tuple[float, float], z: tuple[float, float], color: Color, label: str | None) -> None:
    """A rectangle on the ground, in bands so that the haze follows the distance."""
    cuts = [cut for cut in (8.0, 14.0, 25.0, 50.0) if z[0] < cut < z[1]]
    edges = [z[0], *cuts, z[1]]
    for near, far in itertools.pairwise(edges):
        corners = np.array([[x[0], 0, near], [x[1], 0, near], [x[1], 0, far], [x[0], 0, far]])
        fog = 1 - np.exp(-canvas.light.density * min((near + far) / 2, 60))
        tone = mix(color, canvas.light.haze, fog)
        canvas.polygons([canvas.camera.project(corners)], tone, None if label is None else _ID[label])


def draw_ground(canvas: Canvas, street: Street, rng: np.random.Generator, tracks: float | None) -> None:
    """Sidewalks, verges, road with markings, the crossing street with a zebra, and tram tracks at x = `tracks`."""
    wet = canvas.light.name == "rain"
    asphalt = scale((104, 104, 108), rng.uniform(0.78, 1.0) * (0.85 if wet else 1))
    paving = scale((172, 166, 158), rng.uniform(0.85, 1.0))
    paint = (226, 226, 220)
    grass = scale((104, 132, 66), rng.uniform(0.85, 1.05))
    near, far = 0.8, FAR * 3
    _ground(canvas, (-300, 300), (near, far), paving, "sidewalk")
    if rng.random() < 0.4:
        side = rng.choice([-1, 1])
        edge = street.right + 0.4 if side > 0 else street.left - 0.4
        _ground(canvas, tuple(sorted((edge, edge + side * 1.5))), (near, far), grass, "terrain")
    for edge in (street.left, street.right):
        _ground(canvas, (edge - 0.18, edge + 0.18), (near, far), scale(paving, 1.15), "sidewalk")
    _ground(canvas, (street.left, street.right), (near, far), asphalt, "road")
    _ground(canvas, (-300, 300), street.crossing, asphalt, "road")
    middle = (street.left + street.right) / 2
    for start in np.arange(2.0, 90.0, 6.0) + rng.uniform(0, 6):
        if not street.open(start):
            _ground(canvas, (middle - 0.08, middle + 0.08), (start, start + 3), paint, None)
    for edge in (street.left + 2.3, street.right - 2.3):
        _ground(canvas, (edge - 0.05, edge + 0.05), (near, street.crossing[0] - 4), paint, None)
    if rng.random() < 0.7:
        for x in np.arange(street.left + 0.4, street.right - 0.5, 1.0):
            _ground(canvas, (x, x + 0.5), (street.crossing[0] - 3.4, street.crossing[0] - 0.8), paint, None)
    for _ in range(rng.integers(0, 4)):
        x, z = rng.uniform(street.left + 1, street.right - 2), rng.uniform(6, 30)
        _ground(
            canvas,
            (x, x + rng.uniform(0.5, 2)),
            (z, z + rng.uniform(1, 6)),
            scale(asphalt, rng.uniform(0.82, 0.95)),
            None,
        )
    if tracks is not None:
        for rail in (tracks - 0.72, tracks + 0.72):
            _ground(canvas, (rail - 0.12, rail + 0.12), (near, far), scale(asphalt, 0.75), None)
            _ground(canvas, (rail - 0.04, rail + 0.04), (near, far), (186, 188, 190), None)


def draw_buildings(canvas: Canvas, street: Street, rng: np.random.Generator) -> None:
    """Rows of houses on both sides, open at the crossing, and the skyline at the end of the street."""
    _skyline(canvas, rng)
    houses = []
    for side in (-1, 1):
        line = street.right + street.sidewalk if side > 0 else street.left - street.sidewalk
        z = rng.uniform(-4, 2)
        while z < FAR * 0.8:
            depth = rng.uniform(8, 17)
            if street.open(z) or street.open(z + depth) or (z < street.crossing[0] < z + depth):
                if z + depth / 2 < street.crossing[0] and street.crossing[0] - 2 - z > 4:
                    depth = street.crossing[0] - 2 - z
                else:
                    z = street.crossing[1] + 2 if z <= street.crossing[1] + 2 else z + 1
                    continue
            if rng.random() < 0.93:
                houses.append((z, z + depth, side, line + side * rng.choice([0, 0, 0, 1.5])))
            z += depth
    for near, far, side, line in sorted(houses, key=lambda house: -house[1]):
        _house(canvas, (near, far), side, line, rng)


def _skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    for x in np.arange(-150, 150, 9.0):
        pen = Pen(canvas, x, FAR + rng.uniform(0, 30), 0, _ID["building"])
        high, wide = rng.uniform(7, 22), rng.uniform(5, 9)
        color = scale(FACADES[rng.integers(len(FACADES))], 0.85)
        pen.fill(np.array([[-wide, 0, 0], [wide, 0, 0], [wide, high, 0], [-wide, high, 0]]), color)
    for x in np.arange(-100, 100, 6.0):
        if rng.random() < 0.6:
            pen = Pen(canvas, x, FAR - 10, 0, _ID["vegetation"])
            pen.limb((0, 2, 0), (3, 2, 0), (rng.uniform(2, 4), rng.uniform(2, 4)), LEAVES[rng.integers(len(LEAVES))])


def _house(canvas: Canvas, z: tuple[float, float], side: int, line: float, rng: np.random.Generator) -> None:
    """Facade along the street, gable towards the camera, windows in rows, a shop on the ground floor."""
    near, far = max(z[0], 0.9), z[1]
    color = scale(FACADES[rng.integers(len(FACADES))], rng.uniform(0.85, 1.05))
    floors, storey = int(rng.integers(2, 7)), rng.uniform(2.9, 3.5)
    high = floors * storey + 0.8
    pen = Pen(canvas, 0, (near + far) / 2, 0, _ID["building"])
    pen.origin[:] = 0
    depth = side * 14.0
    if z[0] > 0.9:
        gable = np.array([[line, 0, near], [line + depth, 0, near], [line + depth, high, near], [line, high, near]])
        pen.fill(gable, scale(color, 0.92 * canvas.light.shade(np.array([0, 0, -1.0]))))
    shade = canvas.light.shade(np.array([-side, 0, 0.0]))
    wall = np.array([[line, 0, near], [line, 0, far], [line, high, far], [line, high, near]])
    pen.fill(wall, scale(color, shade))
    ledge = scale(color, shade * 0.72)

    def stripe(v: tuple[float, float], tone: Color) -> None:
        pen.fill(np.array([[line, v[0], near], [line, v[0], far], [line, v[1], far], [line, v[1], near]]), tone)

    stripe((high - 0.45, high), ledge)
    shop = rng.random() < 0.45
    if shop:
        stripe((0, storey), scale(color, shade * 0.66))
        stripe(
            (storey - 0.7, storey - 0.1), scale((rng.uniform(60, 190), rng.uniform(60, 150), rng.uniform(60, 150)), 1.0)
        )
    else:
        stripe((0, 0.6), ledge)
    columns = max(2, int((z[1] - z[0]) / rng.uniform(2.1, 3.0)))
    step = (z[1] - z[0]) / columns
    left = z[0] + step * (np.arange(columns) + 0.27)
    left = left[left > 1.0]
    if not len(left):
        return
    share = rng.uniform(0.42, 0.56)
    rows = np.arange(0 if not shop else 1, floors) * storey + 0.95
    warm = canvas.light.name in ("evening", "rain")
    frames: list[Any] = []
    dark: list[Any] = []
    lit: list[Any] = []
    for bottom in rows:
        for start in left:
            end, top = start + step * share, bottom + storey * 0.52
            frames.append(_pane(line, start - 0.12, end + 0.12, bottom - 0.15, top + 0.12))
            pane = _pane(line, start, end, bottom, top)
            (lit if warm and rng.random() < 0.25 else dark).append(pane)
    pen.fill_all(np.array(frames), scale(color, min(1.25, shade * 1.22)))
    pen.fill_all(np.array(dark or [frames[0]]), mix((52, 62, 74), canvas.light.haze, 0.18))
    if lit:
        pen.fill_all(np.array(lit), (246, 214, 140))
    if shop:
        panes = [_pane(line, start - 0.3 * step * 0.4, start + step * 0.62, 0.5, storey - 0.85) for start in left]
        pen.fill_all(np.array(panes), mix((58, 72, 84), (236, 214, 160), 0.4 * rng.random()))


def _pane(x: float, near: float, far: float, low: float, high: float) -> np.ndarray:
    return np.array([[x, low, near], [x, low, far], [x, high, far], [x, high, near]])


def draw_tree(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A trunk and a crown of overlapping clumps, lighter towards the sun."""
    pen = Pen(canvas, x, z, 0, _ID["vegetation"], rng.uniform(0.75, 1.15))
    leaves = LEAVES[rng.integers(len(LEAVES))]
    pen.limb((0, 0, 0), (0.1, 3.0, 0), (0.2, 0.13), (94, 72, 54))
    clumps = np.stack([rng.normal(0, 0.85, 34), rng.normal(4.5, 0.95, 34)], axis=1)
    sun = canvas.light.sun
    height = clumps @ np.array([sun[0], sun[1]])
    for rank, index in enumerate(np.argsort(height, kind="stable")):
        u, v = clumps[index]
        factor = 0.62 + 0.5 * rank / len(clumps) + rng.uniform(-0.06, 0.06)
        radius = rng.uniform(0.38, 0.8)
        outline = pen.pixels(np.array([[u, v, 0]])) + radius * pen.scale * _blob(rng)
        canvas.polygons([outline], pen.tone(scale(leaves, factor)), pen.value)


def _blob(rng: np.random.Generator) -> np.ndarray:
    angle = np.arange(14) * 2 * np.pi / 14
    radius = rng.uniform(0.78, 1.15, 14)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def draw_lamp(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A street lamp that leans over the road."""
    pen = Pen(canvas, x, z, 0, _ID["pole"])
    pen.limb((0, 0, 0), (0, 6.5, 0), (0.09, 0.06), STEEL)
    over = -np.sign(x) * 1.4
    pen.limb((0, 6.5, 0), (over, 6.8, 0), (0.05, 0.05), STEEL)
    pen.limb((over, 6.75, 0), (over * 1.35, 6.72, 0), (0.12, 0.09), (212, 212, 200))


def draw_sign(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A traffic sign on its post: warning triangle, round prohibition, blue direction, priority diamond or stop."""
    post = Pen(canvas, x, z, 0, _ID["pole"])
    post.limb((0, 0, 0), (0, 2.6, 0), (0.045, 0.045), STEEL)
    pen = Pen(canvas, x, z - 0.05, 0, _ID["traffic sign"])
    kind = rng.integers(5)
    corners, turn = ((3, np.pi / 2), (24, 0.0), (24, 0.0), (4, 0.0), (8, np.pi / 8))[kind]
    outer, inner = (
        ((200, 30, 34), (244, 244, 240)),
        ((200, 30, 34), (244, 244, 240)),
        ((244, 244, 240), (30, 84, 176)),
        ((244, 244, 240), (246, 200, 40)),
        ((244, 244, 240), (200, 30, 34)),
    )[kind]
    angle = turn + np.arange(corners) * 2 * np.pi / corners
    for radius, color in ((0.42, outer), (0.31, inner)):
        pen.fill(np.stack([radius * np.cos(angle), 2.75 + radius * np.sin(angle), 0 * angle], axis=1), color)
    bar = np.array([[-0.18, 2.7, 0], [0.18, 2.7, 0], [0.18, 2.8, 0], [-0.18, 2.8, 0]])
    pen.fill(bar, (30, 30, 32) if kind in (0, 1) else (244, 244, 240))


def draw_traffic_light(canvas: Canvas, x: float, z: float, rng: np.random.Generator) -> None:
    """A signal head on a post with one lamp lit."""
    post = Pen(canvas, x, z, 0, _ID["pole"])
    post.limb((0, 0, 0), (0, 3.0, 0), (0.07, 0.06), STEEL)
    pen = Pen(canvas, x, z - 0.05, 0, _ID["traffic light"])
    pen.fill(np.array([[-0.19, 2.3, 0], [0.19, 2.3, 0], [0.19, 3.3, 0], [-0.19, 3.3, 0]]), (30, 32, 32))
    lit = rng.integers(3)
    for index, color in enumerate(((236, 44, 36), (246, 190, 40), (50, 206, 106))):
        pen.disk(0, 3.12 - 0.32 * index, 0, 0.12, color if index == lit else scale(color, 0.25), 12)


def draw_bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """The observer's own car at the bottom edge."""
    height, width = canvas.ids.shape
    rise = height * rng.uniform(0.04, 0.08)
    x = np.linspace(0, 1, 25)
    arch = np.stack([width * (0.08 + 0.84 * x), height - rise * np.sin(np.pi * x) ** 0.5], axis=1)
    canvas.polygons([np.vstack([arch, [[width, height + 4], [0, height + 4]]])], (38, 40, 46), _ID["ego vehicle"])
    canvas.polyline(np.add(arch[4:21], (0, rise * 0.22)), (92, 100, 112), height * 0.006, None)
