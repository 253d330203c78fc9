"""Perspective street scenes: light, houses, road, and who is on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instsynth_dagster.cityscapes import LABEL_BY_NAME, write_frame
from instsynth_dagster.demo_city.attributes import CLOTHES, PAINT, Attributes
from instsynth_dagster.demo_city.canvas import Canvas, Color, shade
from instsynth_dagster.demo_city.figures import draw_figure
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import DemoCitySettings

FREQUENCIES: dict[str, float] = {
    "car": 6.0,
    "person": 5.0,
    "rider": 1.6,
    "bicycle": 1.4,
    "motorcycle": 0.8,
    "truck": 0.7,
    "bus": 0.6,
    "train": 0.5,
}
HEIGHTS = {
    "car": 1.5,
    "person": 1.75,
    "rider": 1.9,
    "bicycle": 1.05,
    "motorcycle": 1.15,
    "truck": 3.1,
    "bus": 3.0,
    "train": 3.3,
}
"""Metres. The camera hangs at CAMERA metres."""
CAMERA = 2.2
SKIES: tuple[tuple[Color, Color, float], ...] = (
    ((118, 168, 220), (206, 226, 240), 1.0),
    ((150, 160, 172), (206, 210, 214), 0.88),
    ((96, 104, 150), (242, 180, 130), 0.8),
    ((110, 118, 128), (160, 166, 172), 0.74),
)
_ID = {name: label.id for name, label in LABEL_BY_NAME.items()}
MIN_PIXELS = 10


@dataclass(frozen=True)
class Scene:
    """image uint8 (H, W, 3), ids int32 (H, W), and the attributes of every instance by its id."""

    image: np.ndarray
    ids: np.ndarray
    attributes: dict[int, Attributes]


def render_scene(seed: int, width: int, height: int, class_weights: Mapping[str, float] | None = None) -> Scene:
    """Draw one street scene; the same arguments give the same bytes.

    `class_weights` multiplies the frequency of each named class.
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(width, height)
    horizon = height * rng.uniform(0.36, 0.46)
    light = _background(canvas, width, height, horizon, rng)
    attributes = _traffic(canvas, width, height, horizon, rng, class_weights or {})
    image, ids = canvas.finish()
    noise = rng.normal(0, 3, (height, width, 1))
    image = np.clip(image * light + noise, 0, 255).astype(np.uint8)
    values, counts = np.unique(ids, return_counts=True)
    for value in values[(values >= 1000) & (counts < MIN_PIXELS)].tolist():
        ids[ids == value] = _ID["dynamic"]
    alive = set(values[counts >= MIN_PIXELS].tolist())
    return Scene(image, ids, {value: kind for value, kind in attributes.items() if value in alive})


def _background(canvas: Canvas, width: int, height: int, horizon: float, rng: np.random.Generator) -> float:
    top, bottom, light = SKIES[rng.integers(len(SKIES))]
    bands = 24
    for band in range(bands):
        mix = band / (bands - 1)
        red, green, blue = (round(a + (b - a) * mix) for a, b in zip(top, bottom, strict=True))
        y = horizon * band / bands
        canvas.box(0, y, width, horizon * (band + 1) / bands + 1, (red, green, blue), _ID["sky"])
    vanish = width * rng.uniform(0.42, 0.58)
    _houses(canvas, width, horizon, height, rng)
    canvas.box(0, horizon, width, height, (156, 150, 144), _ID["sidewalk"])
    spread = width * rng.uniform(0.55, 0.75)
    road = [(vanish - 6, horizon), (vanish + 6, horizon), (vanish + spread, height), (vanish - spread, height)]
    canvas.polygon(road, (84, 84, 90), _ID["road"])
    for dash in range(8):
        near, far = (
            horizon + (height - horizon) * ((dash + 0.6) / 8) ** 2,
            horizon + (height - horizon) * (dash / 8) ** 2,
        )
        thick_near, thick_far = (near - horizon) * 0.018, (far - horizon) * 0.018
        dashes = [
            (vanish - thick_far, far),
            (vanish + thick_far, far),
            (vanish + thick_near, near),
            (vanish - thick_near, near),
        ]
        canvas.polygon(dashes, (222, 222, 216), _ID["road"])
    _street_furniture(canvas, width, height, horizon, rng)
    return light


def _houses(canvas: Canvas, width: int, horizon: float, height: int, rng: np.random.Generator) -> None:
    x = -rng.uniform(0, 40)
    while x < width:
        wide, tall = rng.uniform(0.09, 0.2) * width, horizon * rng.uniform(0.45, 0.98)
        red, green, blue = rng.integers((120, 100, 90), (216, 196, 182))
        wall: Color = (int(red), int(green), int(blue))
        base, floor = horizon + 0.03 * height, 0.085 * height
        canvas.box(x, base - tall, x + wide, base, wall, _ID["building"])
        canvas.box(x, base - tall, x + wide, base - tall + 3, shade(wall, 0.6), _ID["building"])
        columns = max(2, int(wide / (0.045 * width)))
        for row in range(int((tall - 6) / floor)):
            for column in range(columns):
                left, upper = x + (column + 0.25) * wide / columns, base - tall + 8 + row * floor
                glass = (244, 214, 140) if rng.random() < 0.12 else shade((92, 112, 132), rng.uniform(0.7, 1.25))
                canvas.box(left, upper, left + 0.5 * wide / columns, upper + 0.55 * floor, glass, _ID["building"])
        x += wide


def _street_furniture(canvas: Canvas, width: int, height: int, horizon: float, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(2, 6)):
        side = rng.choice([-1, 1])
        x, size = width / 2 + side * rng.uniform(0.24, 0.5) * width, height * rng.uniform(0.12, 0.26)
        y = horizon + 0.05 * height
        canvas.box(x - 0.05 * size, y - size, x + 0.05 * size, y, (92, 68, 48), _ID["vegetation"])
        green = shade((60, 110, 52), rng.uniform(0.7, 1.3))
        for _ in range(7):
            dx, dy = rng.normal(0, 0.22 * size, 2)
            canvas.disc(
                x + dx,
                y - size + dy,
                size * rng.uniform(0.2, 0.34),
                shade(green, rng.uniform(0.85, 1.2)),
                _ID["vegetation"],
            )
    for _ in range(rng.integers(1, 4)):
        x, y, tall = (
            width * rng.uniform(0.02, 0.98),
            horizon + height * rng.uniform(0.05, 0.2),
            height * rng.uniform(0.25, 0.45),
        )
        canvas.line([(x, y), (x, y - tall)], height * 0.01, (96, 98, 102), _ID["pole"])
        if rng.random() < 0.6:
            canvas.disc(x, y - tall, height * 0.03, (30, 70, 170), _ID["traffic sign"])
            canvas.disc(x, y - tall, height * 0.018, (236, 236, 236), _ID["traffic sign"])


def _traffic(
    canvas: Canvas, width: int, height: int, horizon: float, rng: np.random.Generator, weights: Mapping[str, float]
) -> dict[int, Attributes]:
    names = list(FREQUENCIES)
    odds = np.array([FREQUENCIES[name] * weights.get(name, 1.0) for name in names])
    count = int(rng.integers(7, 14))
    # depth by feet: the farther the earlier, so that painting makes the occlusion
    feet = np.sort(horizon + (height - horizon) * rng.uniform(0.1, 1.0, count) ** 1.3)
    kinds = rng.choice(len(names), count, p=odds / odds.sum())
    indices = dict.fromkeys(names, 0)
    attributes: dict[int, Attributes] = {}

    def put(name: str, x: float, y: float, tall: float, flip: int, group: bool) -> None:
        kind = _attributes(name, rng)
        value = _ID[name] if group else _ID[name] * 1000 + indices[name]
        if not group:
            indices[name] += 1
            attributes[value] = kind
        draw_figure(canvas, kind, x, y, tall, value, flip, rng)

    for foot, index in zip(feet.tolist(), kinds.tolist(), strict=True):
        name, scale = names[index], (foot - horizon) / CAMERA
        x, flip = float(rng.uniform(-0.02, 1.02) * width), int(rng.choice([-1, 1]))
        tall = HEIGHTS[name] * scale * float(rng.uniform(0.92, 1.08))
        group = name in ("person", "bicycle") and scale < 12 and rng.random() < 0.35
        if name == "rider":
            put("motorcycle" if rng.random() < 0.3 else "bicycle", x, foot, tall * 0.55, flip, False)
        for member in range(int(rng.integers(3, 6)) if group else 1):
            put(name, x + member * 0.45 * tall, foot, tall, flip, group)
    return attributes


def _attributes(name: str, rng: np.random.Generator) -> Attributes:
    if name in ("person", "rider"):
        pair = ("man", "woman") if name == "person" else ("male", "female")
        return Attributes(name, str(rng.choice(CLOTHES)), str(rng.choice(pair)))
    return Attributes(name, str(rng.choice(list(PAINT))))


def city_frames(city: str, settings: DemoCitySettings) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(frame_id, image, ids) of every frame of a city."""
    for index in range(settings.frames_per_city):
        scene = render_scene(content_seed(settings.seed, city, index), settings.width, settings.height)
        yield f"{city}_{index:06}_000019", scene.image, scene.ids


def write_demo_city(root: Path, split: str, city: str, settings: DemoCitySettings) -> int:
    """Write a city in Cityscapes layout; returns the number of frames."""
    for frame_id, image, ids in city_frames(city, settings):
        write_frame(root, split, frame_id, image, ids)
    return settings.frames_per_city
