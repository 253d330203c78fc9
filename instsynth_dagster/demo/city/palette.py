"""Attributes of an instance in words, and the colours that match them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Color = tuple[float, float, float]
"""RGB, 0 to 255."""

PAINTS: dict[str, Color] = {
    "red": (200, 28, 30),
    "blue": (32, 72, 190),
    "green": (30, 138, 62),
    "white": (240, 240, 238),
    "black": (34, 34, 38),
    "yellow": (240, 196, 24),
    "silver": (162, 167, 175),
}
CLOTHES = tuple(name for name in PAINTS if name != "silver")

_DULL = {"red": "white", "blue": "black", "green": "silver", "yellow": "silver"}
_DULL_CLOTHES = {"red": "white", "blue": "black", "green": "black", "yellow": "white"}
PALETTES = ("full", "dull")
"""Colours of a city's vehicles and clothes: every colour, or only white, black and silver (clothes: white and
black)."""

_VARIANTS = {"person": ("man", "woman"), "rider": ("male", "female")}
_CAR_COLORS = np.array([0.17, 0.16, 0.09, 0.18, 0.14, 0.10, 0.16])


def palette_colors(palette: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the colours of vehicles and of clothes in one of `PALETTES`."""
    if palette == "full":
        return tuple(PAINTS), CLOTHES
    vehicles = dict.fromkeys(_DULL.get(name, name) for name in PAINTS)
    clothes = dict.fromkeys(_DULL_CLOTHES.get(name, name) for name in CLOTHES)
    return tuple(vehicles), tuple(clothes)


@dataclass(frozen=True)
class Attributes:
    """Class, colour and variant ('man'/'woman' for a person, 'male'/'female' for a rider, else '')."""

    class_name: str
    color: str
    variant: str = ""


def caption(attributes: Attributes) -> str:
    """The prompt that describes an instance, in the wording of the prompt templates."""
    if attributes.class_name == "person":
        garment = "coat" if attributes.variant == "woman" else "jacket"
        return f"a photo of a {attributes.variant} in a {attributes.color} {garment}"
    if attributes.class_name == "rider":
        return f"a photo of a {attributes.variant} rider in a {attributes.color} jacket"
    return f"a photo of a {attributes.color} {attributes.class_name}"


def draw_attributes(rng: np.random.Generator, class_name: str) -> Attributes:
    """Random attributes of an instance; cars are a little more often white or red, everything else is uniform."""
    if class_name in _VARIANTS:
        return Attributes(class_name, str(rng.choice(CLOTHES)), str(rng.choice(_VARIANTS[class_name])))
    weights = _CAR_COLORS if class_name == "car" else None
    return Attributes(class_name, str(rng.choice(tuple(PAINTS), p=weights)))


def dulled(attributes: Attributes) -> Attributes:
    """The same instance in the palette `dull`."""
    colors = _DULL_CLOTHES if attributes.class_name in _VARIANTS else _DULL
    return replace(attributes, color=colors.get(attributes.color, attributes.color))


def recolored(attributes: Attributes, rng: np.random.Generator) -> Attributes:
    """The same instance in a random colour of the full palette, all with equal probability."""
    colors = CLOTHES if attributes.class_name in _VARIANTS else tuple(PAINTS)
    return replace(attributes, color=str(rng.choice(colors)))


def scale(color: Color, factor: float) -> Color:
    """A lighter or darker tone; towards white above 1, so that a hue stays a hue."""
    if factor <= 1:
        return color[0] * factor, color[1] * factor, color[2] * factor
    return mix(color, (255, 255, 255), factor - 1)


def mix(color: Color, other: Color, share: float) -> Color:
    """`share` of `other` in `color`."""
    return tuple(a + (b - a) * share for a, b in zip(color, other, strict=True))  # type: ignore[return-value]
