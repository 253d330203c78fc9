"""Words for the light of a frame, from statistics of its pixels: no model, no settings, deterministic."""

from __future__ import annotations

import cv2
import numpy as np

NIGHT, DIM, EVENING, FOG, SUN, DAY = (
    "at night",
    "in dim light",
    "in warm evening light",
    "in fog",
    "in bright sunlight",
    "in daylight",
)

_NIGHT, _DIM = 35, 70
"""Mean grey levels below which a frame counts as dark, and as dim."""
_WARM = 0.15
"""Mean red minus mean blue over the mean of all channels, from which the light counts as warm."""
_FLAT, _HARD = 25, 60
"""Standard deviations of grey levels below which a frame counts as foggy, and above which shadows are hard."""
_BRIGHT = 100
"""Mean grey level above which a frame counts as bright."""


def lighting_words(image: np.ndarray) -> str:
    """Words that end a prompt, as in "a photo of a car in dim light".

    Rain and clouds are not recognised: a wet street or a grey sky has no statistic that a grey façade does not have
    too.

    Args:
        image: the whole frame, uint8 (H, W, 3) RGB.
    """
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    mean, deviation = float(grey.mean(dtype=np.float64)), float(grey.std(dtype=np.float64))
    if mean < _NIGHT:
        return NIGHT
    if mean < _DIM:
        return DIM
    red, _, blue = image.mean(axis=(0, 1), dtype=np.float64)
    if red - blue > _WARM * mean:
        return EVENING
    if mean > _BRIGHT and deviation < _FLAT:
        return FOG
    return SUN if mean > _BRIGHT and deviation > _HARD else DAY
