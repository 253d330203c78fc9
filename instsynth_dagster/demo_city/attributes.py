"""What is known of a drawn instance, and its caption."""

from __future__ import annotations

from dataclasses import dataclass

from instsynth_dagster.demo_city.canvas import Color

PAINT: dict[str, Color] = {
    "red": (200, 36, 32),
    "blue": (36, 72, 190),
    "green": (36, 140, 60),
    "white": (236, 236, 232),
    "black": (34, 34, 38),
    "yellow": (236, 200, 40),
    "silver": (158, 164, 172),
}
CLOTHES = ("red", "blue", "green", "white", "black", "yellow")


@dataclass(frozen=True)
class Attributes:
    """`variant` is man/woman for a person, male/female for a rider, else empty."""

    class_name: str
    color: str
    variant: str = ""


def caption(attributes: Attributes) -> str:
    """The caption in the form of the demo's prompts."""
    color, variant = attributes.color, attributes.variant
    if attributes.class_name == "person":
        return f"a photo of a {variant} in a {color} {'coat' if variant == 'woman' else 'jacket'}"
    if attributes.class_name == "rider":
        return f"a photo of a {variant} rider in a {color} jacket"
    return f"a photo of a {color} {attributes.class_name}"
