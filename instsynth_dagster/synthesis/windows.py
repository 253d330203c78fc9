"""Focused 2:1 windows around an instance (InstSynth Eq. 2-3, with the area/length slip corrected)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from instsynth_dagster.data.formats.cityscapes import LABEL_BY_NAME
from instsynth_dagster.data.images import resize_ids, resize_image
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import Box


@dataclass(frozen=True)
class Window:
    """A window in frame pixels, x2 - x1 == 2 * (y2 - y1). `scale` is lambda, its area over the tight 2:1 area."""

    x1: int
    y1: int
    x2: int
    y2: int
    scale: float
    contains_box: bool


def sample_window(box: Box, width: int, height: int, settings: IntegrationSettings, seed: int) -> Window:
    """Sample a window around `box` (xyxy) inside a width x height frame, in closed form.

    Eq. 2: its area is lambda times that of the tight 2:1 window, lambda ~ N(scale_mean, scale_std) truncated to
    [1, what fits]. The paper's h = S/4 takes an area for a length; from w = 2h follows h = sqrt(S/2). Eq. 3: its
    position is uniform over all that contain the box. Where no 2:1 window of the frame contains the box, the largest
    one that fits is laid over as much of it as possible.
    """
    rng = np.random.default_rng(seed)
    tight = max(box[3] - box[1], -(-(box[2] - box[0]) // 2))
    largest = min(height, width // 2)
    if tight > largest:
        h, scale = largest, (largest / tight) ** 2
    else:
        scale = _scale((largest / tight) ** 2, settings, rng.random())
        h = min(max(int(tight * scale**0.5), tight), largest)
    x = _offset(box[0], box[2], 2 * h, width, rng.random())
    y = _offset(box[1], box[3], h, height, rng.random())
    return Window(x, y, x + 2 * h, y + h, scale, tight <= largest)


def _scale(most: float, settings: IntegrationSettings, uniform: float) -> float:
    if most <= 1:
        return 1.0
    low, high = ((bound - settings.scale_mean) / settings.scale_std for bound in (1.0, most))
    from scipy.stats import truncnorm

    drawn = truncnorm.ppf(uniform, low, high, loc=settings.scale_mean, scale=settings.scale_std)
    return float(np.clip(drawn, 1.0, most))


def _offset(low: int, high: int, length: int, limit: int, uniform: float) -> int:
    """Uniform start of a stretch of `length` within [0, limit) that contains [low, high), or covers its middle."""
    first, last = max(0, high - length), min(low, limit - length)
    if first > last:
        first = last = min(max((low + high - length) // 2, 0), limit - length)
    return first + min(int(uniform * (last - first + 1)), last - first)


def cut_window(
    image: np.ndarray,
    ids: np.ndarray,
    window: Window,
    settings: IntegrationSettings,
    areas: Mapping[int, int],
    target: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut and resize a window: the image by area or Lanczos, ids by nearest neighbour.

    Args:
        image, ids: the frame, uint8 (H, W, 3) and int32 (H, W).
        areas: pixels of every id in the whole frame.
        target: the instance the window is for; it keeps its id however much is cut.

    Returns:
        image uint8 (h, w, 3), ids int32 (h, w) at `settings.window_size`. Neighbours of which less than `min_visible`
        is inside become a group of their label.
    """
    inside = (slice(window.y1, window.y2), slice(window.x1, window.x2))
    cut = ids[inside]
    values, inverse, counts = np.unique(cut, return_inverse=True, return_counts=True)
    visible = counts / np.array([areas[value] for value in values.tolist()])
    truncated = (values >= 1000) & (values != target) & (visible < settings.min_visible)
    grouped = np.where(truncated, values // 1000, values)[inverse].reshape(cut.shape).astype(np.int32)
    return resize_image(image[inside], settings.window_size), resize_ids(grouped, settings.window_size)


def synthetic_frame_id(city: str, class_name: str, index: int) -> str:
    """Name of a synthetic frame, unique in an export and parsable by the official tools."""
    return f"{city}syn_{LABEL_BY_NAME[class_name].id:06}_{index:06}"
