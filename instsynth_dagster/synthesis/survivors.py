"""Whether pixels of a source survive in its anonymised frame: groups of equal pixels larger than chance explains.

A hidden pixel may equal its source although nothing was left: a jacket in one colour equals its own mean, a lamp post
above a head continues below it. Such pixels can be guessed from their surroundings, so they are left out of the
comparison. Of the others, the *informative* ones, a repainting matches a few isolated ones exactly; source pixels that
survived show as adjacent pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.settings import AnonymiseSettings
from instsynth_dagster.synthesis.anonymise import Part, coarsened, covered, filled_from_outside, hidden_parts

DIFFERENCE = 8
"""Grey levels, in the channel that differs most, by which an informative pixel differs from any guess."""
CLIPPED = 4
"""Grey levels from black and from white within which a pixel counts as clipped."""
GROUP = 9
"""Number of adjacent informative pixels equal to the source that counts as survival and not as chance."""


@dataclass(frozen=True)
class SurvivingObject:
    """An object (its value in the id map) whose pixels survived: how many, and how many of its pixels are
    informative.
    """

    value: int
    pixels: int
    informative: int


@dataclass(frozen=True)
class FrameComparison:
    """Comparison of an anonymised frame with its source.

    It holds the surviving objects; the size in pixels of the largest group of equal informative pixels in any object,
    which is how close chance came; the numbers of informative and of hidden pixels; and the number of pixels that
    changed although nothing is hidden there.
    """

    survivors: tuple[SurvivingObject, ...]
    largest_group: int
    informative: int
    hidden: int
    changed_outside: int


def compare(
    source: np.ndarray,
    anonymised: np.ndarray,
    ids: np.ndarray,
    labels: LabelTable,
    classes: Iterable[str],
    settings: AnonymiseSettings,
) -> FrameComparison:
    """Compare an anonymised frame with its source, pixel by pixel.

    A hidden pixel (of an object of `classes`, or within the dilation of one) is informative where the source differs by
    more than `DIFFERENCE` grey levels from the nearest pixel that is not hidden and from the coarse version of its
    object, and is not clipped. An object survives where `GROUP` informative pixels that touch each other (8 neighbours)
    equal the source in all channels; for an object with fewer than twice as many informative pixels, half of them
    suffice.

    Args:
        source, anonymised: uint8 (H, W, 3), losslessly stored.
        ids: int32 (H, W), of the frame.
    """
    parts = hidden_parts(ids, labels, classes)
    region = covered(ids.shape, parts, settings.dilation)
    equal = (source == anonymised).all(axis=2)
    informative = region & (source.max(axis=2) > CLIPPED) & (source.min(axis=2) < 255 - CLIPPED)
    if not region.all():
        informative &= _differs(source, filled_from_outside(source, region))
    inside = covered(ids.shape, parts, 0)
    informative &= ~inside | _differs(source, coarsened(source, parts, settings))
    survivors, largest = [], 0
    for part in parts:
        found, informative_here = _largest_group(part, informative, informative & equal, settings.dilation)
        largest = max(largest, found)
        if found and found >= min(GROUP, (informative_here + 1) // 2):
            survivors.append(SurvivingObject(part.value, found, informative_here))
    changed = int((~equal & ~region).sum())
    return FrameComparison(tuple(survivors), largest, int(informative.sum()), int(region.sum()), changed)


def _differs(source: np.ndarray, guess: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.absdiff(source, guess).max(axis=2) > DIFFERENCE)


def _largest_group(part: Part, informative: np.ndarray, equal: np.ndarray, dilation: int) -> tuple[int, int]:
    """For a part with its rim: pixels of the largest group of equal informative ones, and informative pixels in all."""
    height, width = informative.shape
    x1, y1, x2, y2 = part.box
    x1, y1, x2, y2 = max(x1 - dilation, 0), max(y1 - dilation, 0), min(x2 + dilation, width), min(y2 + dilation, height)
    box = (part.box[0] - x1, part.box[1] - y1, part.box[2] - x1, part.box[3] - y1)
    own = covered((y2 - y1, x2 - x1), [Part(part.value, box, part.mask)], dilation)
    window = (slice(y1, y2), slice(x1, x2))
    _, _, stats, _ = cv2.connectedComponentsWithStats((equal[window] & own).astype(np.uint8))
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0)), int((informative[window] & own).sum())


def sentence(frame_id: str, compared: FrameComparison, labels: LabelTable) -> str:
    """The problem of a frame in one line; "" where there is none."""
    if compared.survivors:
        worst = max(compared.survivors, key=lambda survivor: survivor.pixels)
        name = labels.label_of(worst.value).name
        return f"{frame_id}:{worst.value} ({name}): {worst.pixels} adjacent pixels equal the source"
    if compared.changed_outside:
        return f"{frame_id}: {compared.changed_outside} pixels changed where nothing is hidden"
    return ""
