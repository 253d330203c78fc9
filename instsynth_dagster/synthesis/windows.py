"""Focused windows around an instance (InstSynth Eq. 2-3, with the confusion of area and length corrected)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from instsynth_dagster.data.images import interpolation, resize_ids, resize_image
from instsynth_dagster.data.instances import instance_areas
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.crops import Box
from instsynth_dagster.synthesis.integration import Patch


@dataclass(frozen=True)
class Window:
    """A window in frame pixels. `scale` is lambda: its area over that of the tightest window of its aspect ratio."""

    x1: int
    y1: int
    x2: int
    y2: int
    scale: float
    contains_box: bool


def sample_window(box: Box, width: int, height: int, settings: IntegrationSettings, seed: int) -> Window:
    """A random window around `box` (xyxy) inside a width x height frame, in closed form.

    Eq. 2: its area is lambda times that of the tightest window of the aspect ratio of `settings.window_size`, with
    lambda ~ N(scale_mean, scale_std) truncated to [1, largest that fits]. The paper's h = S/4 takes an area for a
    length; from w = 2h (its ratio) follows h = sqrt(S/2). Eq. 3: its position is uniform over all that contain the box.
    Where no such window of the frame contains the box, the largest one that fits is placed over as much of it as
    possible.
    """
    rng = np.random.default_rng(seed)
    aspect = Fraction(*settings.window_size)
    tight = max(box[3] - box[1], math.ceil((box[2] - box[0]) / aspect))
    largest = max(1, min(height, math.ceil((width + 1) / aspect) - 1))
    if tight > largest:
        h, scale = largest, (largest / tight) ** 2
    else:
        scale = _scale((largest / tight) ** 2, settings, rng.random())
        h = min(max(int(tight * scale**0.5), tight), largest)
    w = min(max(1, math.floor(h * aspect)), width)
    x = _offset(box[0], box[2], w, width, rng.random())
    y = _offset(box[1], box[3], h, height, rng.random())
    return Window(x, y, x + w, y + h, scale, tight <= largest)


def _scale(most: float, settings: IntegrationSettings, uniform: float) -> float:
    if most <= 1:
        return 1.0
    low, high = ((bound - settings.scale_mean) / settings.scale_std for bound in (1.0, most))
    drawn = truncated_normal(uniform, low, high) * settings.scale_std + settings.scale_mean
    return float(np.clip(drawn, 1.0, most))


def truncated_normal(uniform: float, low: float, high: float) -> float:
    """Quantile of the standard normal distribution truncated to [low, high].

    Args:
        uniform: probability, in (0, 1).

    Returns:
        Bit for bit `scipy.stats.truncnorm.ppf(uniform, low, high)`, without the 45 MiB that `scipy.stats` takes.
    """
    from scipy import special

    if high <= 0 or low > 0:
        tail, inner = (low, high) if high <= 0 else (-high, -low)
        mass = special.logsumexp([special.log_ndtr(inner), special.log_ndtr(tail) + np.pi * 1j]).real
    else:
        mass = special.log1p(-special.ndtr(low) - special.ndtr(-high))
    if low < 0:
        return float(special.ndtri_exp(special.logsumexp([special.log_ndtr(low), np.log(uniform) + mass])))
    return float(-special.ndtri_exp(special.logsumexp([special.log_ndtr(-high), np.log1p(-uniform) + mass])))


def _offset(low: int, high: int, length: int, limit: int, uniform: float) -> int:
    """Uniform start of an interval of `length` within [0, limit) that contains [low, high), or covers its middle."""
    first, last = max(0, high - length), min(low, limit - length)
    if first > last:
        first = last = min(max((low + high - length) // 2, 0), limit - length)
    return first + min(int(uniform * (last - first + 1)), last - first)


def cut_image(image: np.ndarray, window: Window, settings: IntegrationSettings) -> np.ndarray:
    """A window of a frame's image uint8 (H, W, 3), resized by area or Lanczos to `settings.window_size`."""
    return resize_image(image[window.y1 : window.y2, window.x1 : window.x2], settings.window_size)


def cut_ids(
    ids: np.ndarray,
    window: Window,
    settings: IntegrationSettings,
    areas: Mapping[int, int],
    target: int,
    labels: LabelTable,
) -> np.ndarray:
    """A window of a frame's ids, resized by nearest neighbour.

    Args:
        ids: int32 (H, W) of the frame.
        areas: pixels of every id in the whole frame.
        target: id of the window's own instance, which keeps its id however much is cut.
        labels: label table of the data set.

    Returns:
        ids (h, w) at `settings.window_size`, in uint16 where they fit, which halves the memory, else int32. Neighbours
        of which less than `min_visible` is inside become a group of their label.
    """
    cut = ids[window.y1 : window.y2, window.x1 : window.x2]
    inside_areas = instance_areas(cut)
    values = np.array(list(inside_areas))
    visible = np.array([pixels / areas[value] for value, pixels in inside_areas.items()])
    truncated = values[labels.is_instance(values) & (values != target) & (visible < settings.min_visible)]
    grouped = cut.copy() if len(truncated) else cut
    for value, label in zip(truncated, labels.label_ids(truncated), strict=True):
        grouped[cut == value] = label
    if min(inside_areas) >= 0 and max(inside_areas) < 1 << 16:
        grouped = grouped.astype(np.uint16)
    return resize_ids(grouped, settings.window_size)


def paint_window(
    shown: np.ndarray, frame: np.ndarray, window: Window, mask: np.ndarray, patch: Patch | None = None
) -> np.ndarray:
    """A window that shows another frame inside a mask, and is unchanged bit for bit outside.

    Only the region around the mask is resized, with the same filter and scale as the whole window, starting where a
    corner of the window's pixels falls on one of the frame's, to 1/128 px.

    Args:
        shown: the window, uint8 (h, w, 3).
        frame: the other frame, uint8 (H, W, 3).
        mask: bool (h, w).
        patch: what lies over the other frame.

    Returns:
        uint8 (h, w, 3).
    """
    if not mask.any():
        return shown
    x1, y1, x2, y2 = mask_box(mask)
    inside = frame[window.y1 : window.y2, window.x1 : window.x2]
    left, source_x = _aligned(x1, x2, inside.shape[1] / shown.shape[1], inside.shape[1])
    top, source_y = _aligned(y1, y2, inside.shape[0] / shown.shape[0], inside.shape[0])
    part = inside[source_y, source_x]
    if patch:
        part = part.copy()
        patch.lay_over(part, window.x1 + source_x.start, window.y1 + source_y.start)
    if shown.shape != inside.shape:
        high, wide = (shown.shape[axis] / inside.shape[axis] for axis in (0, 1))
        part = cv2.resize(part, None, fx=wide, fy=high, interpolation=interpolation(inside.shape, shown.shape))
    painted = shown.copy()
    region = (slice(y1, y2), slice(x1, x2))
    part = part[y1 - top : y2 - top, x1 - left : x2 - left]
    cv2.copyTo(part, mask[region].view(np.uint8), painted[region])
    return painted


_OFF = 1 / 128
"""Tolerance, in pixels of the frame, for a corner off its grid."""
_TAPS = 6
"""Support of a resizing filter beyond its output, in pixels of the coarser of the two grids."""


def _aligned(first: int, last: int, scale: float, length: int) -> tuple[int, slice]:
    """An interval around [first, last) along an axis, and the source interval that it comes from.

    Args:
        scale: source pixels in one pixel.
        length: source pixels of the whole axis.

    Returns:
        Start of the interval, and the source interval, which begins at that start.
    """
    margin = int(np.ceil(_TAPS * max(1, 1 / scale)))
    corners = np.arange(max(0, first - margin) + 1) * scale
    start = int(np.flatnonzero(np.abs(corners - np.rint(corners)) < _OFF)[-1])  # 0 at the latest
    source = round(start * scale)
    return start, slice(source, min(length, int(np.ceil((last + margin) * scale)) + 1))


def synthetic_frame_id(city: str, label_id: int, index: int) -> str:
    """Name of a synthetic frame of a class, unique in an export and in the form that the official Cityscapes tools
    parse.
    """
    return f"{city}syn_{label_id:06}_{index:06}"
