"""Street scenes: places of all objects, drawn from far to near, with Cityscapes ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.city import people, scenery, vehicles
from instsynth_dagster.demo.city.canvas import SUPERSAMPLING, Camera, Canvas, Pen
from instsynth_dagster.demo.city.palette import PAINTS, PALETTES, Attributes, draw_attributes, dulled, mix, recolored
from instsynth_dagster.seeds import content_seed

MEAN_COUNTS = {
    "person": 4.5,
    "rider": 0.9,
    "car": 5.5,
    "truck": 0.4,
    "bus": 0.35,
    "train": 0.3,
    "motorcycle": 0.5,
    "bicycle": 1.1,
}
"""Mean number placed per scene by itself; a rider brings a bicycle or a motorcycle along."""

MIN_VISIBLE = 10
"""Pixels below which an instance is not annotated."""

_HALF_SIZES = {
    "person": (0.35, 0.35),
    "rider": (0.95, 0.4),
    "car": (2.4, 1.0),
    "truck": (4.3, 1.4),
    "bus": (6.1, 1.4),
    "train": (10.2, 1.4),
    "motorcycle": (1.1, 0.4),
    "bicycle": (0.95, 0.35),
}
_ORDER = ("train", "bus", "truck", "car", "rider", "motorcycle", "bicycle", "person")
_DRAW = {
    "car": vehicles.draw_car,
    "truck": vehicles.draw_truck,
    "bus": vehicles.draw_bus,
    "train": vehicles.draw_train,
    "motorcycle": people.draw_motorcycle,
    "bicycle": people.draw_bicycle,
}


@dataclass(frozen=True)
class Scene:
    """uint8 RGB (H,W,3), Cityscapes instance ids int32 (H,W), and the looks of every instance by its value."""

    image: np.ndarray
    ids: np.ndarray
    attributes: dict[int, Attributes]


@dataclass(frozen=True)
class _Place:
    class_name: str
    x: float
    z: float
    yaw: float
    crowd: bool = False

    def footprint(self) -> tuple[float, float, float, float]:
        """x1, z1, x2, z2 of the box around the turned footprint, metres."""
        length, width = _HALF_SIZES[self.class_name]
        cos, sin = abs(np.cos(self.yaw)), abs(np.sin(self.yaw))
        half_x, half_z = length * cos + width * sin, length * sin + width * cos
        return self.x - half_x, self.z - half_z, self.x + half_x, self.z + half_z


Painter = Callable[[Attributes, bool], Attributes]
"""Maps the attributes of an instance, or of a member of a crowd (True), to those that are drawn."""


def _painter(palette: str, repaint: int | None) -> Painter:
    """A function that changes the attributes of instances, with random numbers of its own, so that the rest of a scene
    is unchanged.
    """
    rng = np.random.default_rng(repaint)

    def paint(attributes: Attributes, crowd: bool) -> Attributes:
        shown = dulled(attributes) if palette == "dull" else attributes
        return shown if crowd or repaint is None else recolored(shown, rng)

    return paint


@dataclass
class _Ledger:
    """Ids assigned so far; numbering restarts at 0 for each class. `paint` changes the attributes that are drawn."""

    paint: Painter
    counts: dict[str, int] = field(default_factory=dict)
    attributes: dict[int, Attributes] = field(default_factory=dict)

    def take(self, attributes: Attributes) -> int:
        name = attributes.class_name
        value = CITYSCAPES.by_name[name].id * 1000 + self.counts.get(name, 0)
        self.counts[name] = self.counts.get(name, 0) + 1
        self.attributes[value] = attributes
        return value


def render_scene(
    seed: int,
    width: int,
    height: int,
    class_weights: Mapping[str, float] | None = None,
    palette: str = "full",
    repaint: int | None = None,
) -> Scene:
    """One street scene, the same bits for the same arguments; neither palette nor repaint changes where anything is.

    Args:
        seed: any non-negative integer.
        class_weights: factor on the mean number of each class (`MEAN_COUNTS`); classes left out keep 1.
        palette: one of `PALETTES`.
        repaint: a number that draws every instance again in a random colour of the full palette; crowds keep theirs.

    Raises:
        ValueError: `class_weights` names a class that is not one of the eight, or `palette` is unknown.
    """
    if palette not in PALETTES:
        raise ValueError(f"palette: {palette!r} is not one of {', '.join(PALETTES)}")
    unknown = sorted(set(class_weights or {}) - set(CITYSCAPES.classes))
    if unknown:
        raise ValueError(f"class_weights: {', '.join(unknown)} not among {', '.join(CITYSCAPES.classes)}")
    rng = np.random.default_rng(seed)
    light = scenery.draw_light(rng)
    focal = width * SUPERSAMPLING * rng.uniform(0.85, 1.1)
    center = width * SUPERSAMPLING * rng.uniform(0.44, 0.56), height * SUPERSAMPLING * rng.uniform(0.4, 0.5)
    canvas = Canvas(width, height, Camera(focal, center, rng.uniform(1.35, 1.9)), light)
    start = rng.uniform(14, 45)
    half, offset = rng.uniform(5.2, 7.8), rng.uniform(1.2, 2.6)
    street = scenery.Street(-half - offset, half - offset, rng.uniform(2.8, 5), (start, start + rng.uniform(8, 13)))
    counts = {name: int(rng.poisson(mean * (class_weights or {}).get(name, 1.0))) for name, mean in MEAN_COUNTS.items()}
    tracks = (street.left + street.right) / 2 - 1.6
    scenery.draw_sky(canvas, rng)
    scenery.draw_ground(canvas, street, rng, tracks if counts["train"] or rng.random() < 0.15 else None)
    scenery.draw_buildings(canvas, street, rng)
    backdrop = canvas.ids.copy()
    places = _populate(counts, street, tracks, rng)
    ledger = _Ledger(_painter(palette, None if repaint is None else content_seed("repaint", seed, repaint)))
    _draw_shadows(canvas, places)
    jobs = _furniture(canvas, street, rng)
    jobs += [(place.z, partial(_draw, canvas, place, ledger, rng)) for place in places]
    for _, job in sorted(jobs, key=lambda job: -job[0]):
        job()
    if rng.random() < 0.35:
        scenery.draw_bonnet(canvas, rng)
    image, ids = _develop(canvas, rng), canvas.ids[::SUPERSAMPLING, ::SUPERSAMPLING]
    ids, attributes = _drop_invisible(ids, backdrop[::SUPERSAMPLING, ::SUPERSAMPLING], ledger.attributes)
    return Scene(image, ids, attributes)


def _populate(
    counts: Mapping[str, int], street: scenery.Street, tracks: float, rng: np.random.Generator
) -> list[_Place]:
    """Places without overlapping footprints, large classes first; crowds at the end."""
    places: list[_Place] = []
    boxes: list[tuple[float, float, float, float]] = []

    def settle(place: _Place) -> bool:
        x1, z1, x2, z2 = place.footprint()
        if z1 < 2.2 or any(x1 < b[2] and b[0] < x2 and z1 < b[3] and b[1] < z2 for b in boxes):
            return False
        places.append(place)
        boxes.append((x1, z1, x2, z2))
        return True

    for name in _ORDER:
        for _ in range(counts[name]):
            any(settle(_propose(name, street, tracks, rng)) for _ in range(12))
    if rng.random() < 0.45:
        _crowd(settle, street, rng)
    return places


def _depth(rng: np.random.Generator, near: float, far: float) -> float:
    """Log-uniform, so that near and far get the same number per doubling."""
    return float(np.exp(rng.uniform(np.log(near), np.log(far))))


def _propose(name: str, street: scenery.Street, tracks: float, rng: np.random.Generator) -> _Place:
    half = np.pi / 2
    wobble = rng.normal(0, 0.06)
    middle = (street.left + street.right) / 2
    chance = rng.random()
    if name == "person":
        x, z = _sidewalk(street, rng), _depth(rng, 5.5, 40)
        if chance < 0.4:
            x = rng.uniform(street.left, street.right)
        return _Place(name, x, z, rng.uniform(-np.pi, np.pi))
    if name in ("bicycle", "motorcycle"):
        x = _sidewalk(street, rng) if chance < 0.6 else rng.uniform(street.left + 0.5, street.right - 0.5)
        return _Place(name, x, _depth(rng, 5.0, 24), rng.choice([0, np.pi, half, -half]) + rng.normal(0, 0.5))
    if name == "rider":
        yaw = rng.choice([half, -half, 0, np.pi]) + rng.normal(0, 0.35)
        return _Place(name, rng.uniform(street.left + 0.5, street.right - 0.5), _depth(rng, 5.5, 28), yaw)
    if name == "train":
        if chance < 0.45:
            z = rng.uniform(17, 42)
            return _Place(name, tracks, z + 4, rng.choice([half, -half]))
        return _Place(name, rng.uniform(-9, 9), rng.uniform(*street.crossing), rng.choice([0, np.pi]))
    far = 55 if name == "car" else 34
    length = _HALF_SIZES[name][0]
    if chance < 0.3:
        z = rng.uniform(street.crossing[0] + 1.5, street.crossing[1] - 1.5)
        return _Place(name, rng.uniform(-14, 14), z, rng.choice([0, np.pi]) + wobble)
    if chance < 0.45:
        z = _depth(rng, 9 + length, far)
        return _Place(name, rng.uniform(street.left + 3, street.right - 3), z, rng.uniform(-np.pi, np.pi))
    right = rng.random() < 0.5
    lane = rng.choice([1.15, (street.right - middle) * 0.55]) if name == "car" else (street.right - middle) * 0.5
    x = street.right - lane if right else street.left + lane
    return _Place(name, x, _depth(rng, 4.2 + length, far), (half if right else -half) + wobble)


def _sidewalk(street: scenery.Street, rng: np.random.Generator) -> float:
    inset = rng.uniform(0.4, street.sidewalk - 0.4)
    return street.right + inset if rng.random() < 0.5 else street.left - inset


def _crowd(settle: Callable[[_Place], bool], street: scenery.Street, rng: np.random.Generator) -> None:
    """A far knot of people, or a rack of bicycles, annotated as one group."""
    name = str(rng.choice(("person", "bicycle", "car"), p=(0.5, 0.3, 0.2)))
    x, z = _sidewalk(street, rng), rng.uniform(16, 34)
    for _ in range(rng.integers(5, 10)):
        if name == "car":
            place = _Place(name, rng.uniform(street.left + 1, street.right - 1), rng.uniform(55, 90), np.pi / 2, True)
        else:
            spread = 1.6 if name == "person" else 1.2
            place = _Place(name, x + rng.normal(0, spread), z + rng.normal(0, 1.2), rng.uniform(-np.pi, np.pi), True)
        settle(place)


def _draw_shadows(canvas: Canvas, places: list[_Place]) -> None:
    """Dark ground below everything that stands on it; sharper and longer when the sun is out."""
    sunny = canvas.light.name in ("noon", "evening")
    angle = np.arange(20) * 2 * np.pi / 20
    for place in places:
        length, width = _HALF_SIZES[place.class_name]
        pen = Pen(canvas, place.x, place.z, place.yaw, 0)
        power = 0.35 if length > 2 else 1.0
        cos, sin = np.cos(angle), np.sin(angle)
        u, w = length * np.sign(cos) * np.abs(cos) ** power, width * np.sign(sin) * np.abs(sin) ** power
        outline = pen.pixels(np.stack([u, 0 * u, w], axis=1))
        if sunny:
            outline = outline + np.array([-canvas.light.sun[0] * 0.35 * pen.scale, 0])
        mask = np.round(outline).astype(np.int32)
        x1, y1 = np.maximum(mask.min(axis=0), 0)
        x2, y2 = np.minimum(mask.max(axis=0) + 1, canvas.ids.shape[::-1])
        if x1 >= x2 or y1 >= y2:
            continue
        region = canvas.image[y1:y2, x1:x2]
        cover = np.zeros(region.shape[:2], np.uint8)
        cv2.fillPoly(cover, [mask - (x1, y1)], 255)
        ground = cover.astype(bool) & (canvas.ids[y1:y2, x1:x2] < 11)
        region[ground] = (region[ground] * (0.52 if sunny else 0.66)).astype(np.uint8)


def _draw(canvas: Canvas, place: _Place, ledger: _Ledger, rng: np.random.Generator) -> None:
    """Draw one instance, a rider together with the vehicle."""
    name = place.class_name

    def pen_for(attributes: Attributes, size: float = 1.0) -> Pen:
        label = CITYSCAPES.by_name[attributes.class_name].id
        value = label if place.crowd else ledger.take(attributes)
        return Pen(canvas, place.x, place.z, place.yaw, value, size)

    attributes = ledger.paint(draw_attributes(rng, name), place.crowd)
    size = rng.uniform(0.93, 1.06) * (1.04 if attributes.variant == "man" else 1.0)
    if name == "rider":
        motorcycle = bool(rng.random() < 0.35)
        mount = ledger.paint(draw_attributes(rng, "motorcycle" if motorcycle else "bicycle"), place.crowd)
        _DRAW[mount.class_name](pen_for(mount, size), PAINTS[mount.color], rng)
        people.draw_rider(pen_for(attributes, size), PAINTS[attributes.color], attributes.variant, rng, motorcycle)
    elif name == "person":
        people.draw_person(pen_for(attributes, size), PAINTS[attributes.color], attributes.variant, rng)
    else:
        _DRAW[name](pen_for(attributes), PAINTS[attributes.color], rng)


def _furniture(
    canvas: Canvas, street: scenery.Street, rng: np.random.Generator
) -> list[tuple[float, Callable[[], None]]]:
    """Trees, lamps, signs and signals along the kerbs as (distance, draw) pairs."""
    jobs: list[tuple[float, Callable[[], None]]] = []
    trees = rng.random() < 0.75
    for edge, side in ((street.left, -1), (street.right, 1)):
        z = rng.uniform(6, 14)
        while z < 80:
            if not street.open(z):
                kind = rng.random()
                x = edge + side * rng.uniform(0.5, 1.0)
                if kind < 0.45 and trees:
                    draw = scenery.draw_tree
                    x += side * 1.0
                elif kind < 0.65:
                    draw = scenery.draw_lamp
                else:
                    draw = scenery.draw_sign
                jobs.append((z, partial(draw, canvas, x, z, rng)))
            z += rng.uniform(4, 12)
        if rng.random() < 0.6:
            z, x = street.crossing[0] - 0.7, edge + side * 0.6
            jobs.append((z, partial(scenery.draw_traffic_light, canvas, x, z, rng)))
    return jobs


def _develop(canvas: Canvas, rng: np.random.Generator) -> np.ndarray:
    """Area-averaged image with the tint of the light, grain and rain."""
    height, width = (size // SUPERSAMPLING for size in canvas.ids.shape)
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    image *= np.array(canvas.light.tint, np.float32)
    image += rng.standard_normal((height, width, 1), np.float32) * 2.2
    if canvas.light.name == "rain":
        streaks = np.zeros((height, width), np.uint8)
        for x, y in rng.uniform(0, 1, (110, 2)) * (width, height):
            cv2.line(streaks, (int(x), int(y)), (int(x) - 1, int(y) + height // 22), 60, 1, cv2.LINE_AA)
        share = streaks[..., None].astype(np.float32) / 255
        image += (np.array(mix(canvas.light.haze, (255, 255, 255), 0.4), np.float32) - image) * share
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _drop_invisible(
    ids: np.ndarray, backdrop: np.ndarray, attributes: Mapping[int, Attributes]
) -> tuple[np.ndarray, dict[int, Attributes]]:
    """Ids in which instances below `MIN_VISIBLE` pixels are replaced by the background, without gaps in the
    numbering.
    """
    visible = np.bincount(ids.ravel(), minlength=34_000)
    lookup = np.arange(len(visible), dtype=np.int32)
    kept = _Ledger(lambda attributes, _: attributes)
    lost = np.zeros(len(visible), bool)
    for value in sorted(attributes):
        if visible[value] >= MIN_VISIBLE:
            lookup[value] = kept.take(attributes[value])
        else:
            lost[value] = True
    return np.where(lost[ids], backdrop, lookup[ids]).astype(np.int32), kept.attributes
