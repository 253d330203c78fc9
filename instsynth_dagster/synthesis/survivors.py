"""Whether pixels of a source survive in its anonymised frame: what equals it, and does so by more than chance.

A hidden pixel may equal its source although nothing was left: a jacket in one colour equals its own mean, a lamp post
above a head goes on below. Such pixels tell nothing that is not there anyway, so they are left out of the comparison.
Of the others, the *telling* ones, a repainting hits a few exactly, here and there; what was left shows as pixels side
by side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.settings import AnonymiseSettings
from instsynth_dagster.synthesis.anonymise import Part, covered, from_outside, hidden_parts, made_coarse

DIFFERENCE = 8
"""Grey levels, in the channel that differs most, by which a telling pixel differs from what anyone could guess."""
CLIPPED = 4
"""Grey levels from black and from white within which a pixel shows no detail."""
GROUP = 9
"""Telling pixels side by side that equal the source: so many are no chance."""


@dataclass(frozen=True)
class Survivor:
    """Pixels of an object (its value in the id map) that are still there, and how many of its pixels are telling."""

    value: int
    pixels: int
    telling: int


@dataclass(frozen=True)
class Compared:
    """An anonymised frame beside its source: survivors; the largest group of equal telling pixels of any object, which
    is how close chance came; telling and hidden pixels in all; and pixels that changed although nothing is hidden
    there."""

    survivors: tuple[Survivor, ...]
    largest_group: int
    telling: int
    hidden: int
    changed_outside: int


def compare(
    source: np.ndarray,
    anonymised: np.ndarray,
    ids: np.ndarray,
    labels: LabelTable,
    classes: Iterable[str],
    settings: AnonymiseSettings,
) -> Compared:
    """Compare an anonymised frame with its source, pixel by pixel.

    A hidden pixel (of an object of `classes`, or within the dilation of one) is telling where the source differs by
    more than `DIFFERENCE` grey levels from the nearest pixel that is not hidden and from the coarse version of its
    object, and is not clipped. An object survives where `GROUP` telling pixels that touch each other (8 neighbours)
    equal the source in all channels; of an object with fewer than twice as many telling pixels, half of them.

    Args:
        source, anonymised: uint8 (H, W, 3), losslessly stored; ids: int32 (H, W), the frame's own.
    """
    parts = hidden_parts(ids, labels, classes)
    region = covered(ids.shape, parts, settings.dilation)
    equal = (source == anonymised).all(axis=2)
    telling = region & (source.max(axis=2) > CLIPPED) & (source.min(axis=2) < 255 - CLIPPED)
    if not region.all():
        telling &= _differs(source, from_outside(source, region))
    inside = covered(ids.shape, parts, 0)
    telling &= ~inside | _differs(source, made_coarse(source, parts, settings))
    survivors, largest = [], 0
    for part in parts:
        found, telling_here = _largest_group(part, telling, telling & equal, settings.dilation)
        largest = max(largest, found)
        if found and found >= min(GROUP, (telling_here + 1) // 2):
            survivors.append(Survivor(part.value, found, telling_here))
    changed = int((~equal & ~region).sum())
    return Compared(tuple(survivors), largest, int(telling.sum()), int(region.sum()), changed)


def _differs(source: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.absdiff(source, guess).max(axis=2) > DIFFERENCE)


def _largest_group(part: Part, telling: np.ndarray, equal: np.ndarray, dilation: int) -> tuple[int, int]:
    """Of a part and its rim: pixels of the largest group of equal telling ones, and telling pixels in all."""
    height, width = telling.shape
    x1, y1, x2, y2 = part.box
    x1, y1, x2, y2 = max(x1 - dilation, 0), max(y1 - dilation, 0), min(x2 + dilation, width), min(y2 + dilation, height)
    box = (part.box[0] - x1, part.box[1] - y1, part.box[2] - x1, part.box[3] - y1)
    own = covered((y2 - y1, x2 - x1), [Part(part.value, box, part.mask)], dilation)
    here = (slice(y1, y2), slice(x1, x2))
    _, _, stats, _ = cv2.connectedComponentsWithStats((equal[here] & own).astype(np.uint8))
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0)), int((telling[here] & own).sum())


def sentence(frame_id: str, compared: Compared, labels: LabelTable) -> str:
    """What is wrong with a frame, in one line; "" where nothing is."""
    if compared.survivors:
        worst = max(compared.survivors, key=lambda survivor: survivor.pixels)
        name = labels.label_of(worst.value).name
        return f"{frame_id}:{worst.value} ({name}): {worst.pixels} pixels side by side are those of the source"
    if compared.changed_outside:
        return f"{frame_id}: {compared.changed_outside} pixels changed where nothing is hidden"
    return ""
