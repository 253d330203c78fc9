"""Instances at new places: a donor's shape, scaled to its new distance, standing on ground, behind nearer objects.

Depth order follows from the image: of two things that stand on the ground, the one whose lowest pixel is lower in the
image is nearer. So every instance, and every connected piece of a label that is no ground, occludes an inserted
instance if it reaches further down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from instsynth_dagster.data.images import encode_png, resize_ids, resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import encode_rle, mask_box
from instsynth_dagster.synthesis.crops import Box, crop_box, cut_crop, mask_in_crop
from instsynth_dagster.synthesis.places import StandingPlaces

TRIES = 60
"""Places tried for one inserted instance."""
_STRETCH = 1.6
"""Factor by which a donor's shape may grow or shrink."""
_FOOT_NOISE = 0.02
"""Standard deviation added to the row of a foot drawn from those of the class, in heights of the frame."""
_LEAST_VISIBLE, _MOST_HIDDEN = 0.5, 0.5
"""Share of an inserted instance that must be visible, and share of any other instance that it may occlude."""


@dataclass(frozen=True)
class Donor:
    """An instance whose shape is used: its id, and its mask bool (h, w) in its tight box."""

    instance_id: str
    shape: np.ndarray


@dataclass(frozen=True)
class InsertedInstance:
    """An instance at its new place.

    donor: the donor's id; box: tight box (xyxy) of its visible part; visible: bool (H, W), the visible part in the
    frame; whole: bool (H, W), including occluded pixels; scale: factor on the donor's shape.
    """

    donor: Donor
    box: Box
    visible: np.ndarray
    whole: np.ndarray
    scale: float


def find_place(
    ids: np.ndarray,
    labels: np.ndarray,
    donor: Donor,
    places: StandingPlaces,
    grounds: Collection[int],
    min_area: int,
    seed: int,
    table: LabelTable,
) -> InsertedInstance | str:
    """An instance at a place found for a donor's shape, or the most frequent reason why no place was found.

    Args:
        ids: int32 (H, W) instance ids.
        labels: label ids (H, W).
        places: statistics of the donor's class.
        grounds: labels that objects of any class stand on.
        min_area: pixels of the inserted instance that must be visible.
        table: label table of the data set.
    """
    rng = np.random.default_rng(seed)
    things = standing_things(ids, labels, grounds, table)
    problems: Counter[str] = Counter()
    for _ in range(TRIES):
        answer = _stand(donor, _propose(places, ids.shape, rng), ids, labels, things, places, min_area, table)
        if isinstance(answer, InsertedInstance):
            return answer
        problems[answer] += 1
    return f"no place found in {TRIES} tries: {problems.most_common(1)[0][0]}"


@dataclass(frozen=True)
class _Proposal:
    height: float
    foot: int
    x: float


def _propose(places: StandingPlaces, frame: tuple[int, ...], rng: np.random.Generator) -> _Proposal:
    """A foot drawn like those of the class, and a height drawn like those of its instances there."""
    foot = float(rng.choice(places.feet)) + rng.normal(0, _FOOT_NOISE * frame[0])
    height = places.expected_height(foot) * float(np.exp(rng.choice(places.residuals)))
    return _Proposal(height, round(foot), rng.uniform(0, frame[1]))


def _stand(
    donor: Donor,
    place: _Proposal,
    ids: np.ndarray,
    labels: np.ndarray,
    things: StandingThings,
    places: StandingPlaces,
    min_area: int,
    table: LabelTable,
) -> InsertedInstance | str:
    """The donor's shape at a place, or the reason why it cannot stand there."""
    height, width = ids.shape
    scale = place.height / len(donor.shape)
    if not 1 / _STRETCH <= scale <= _STRETCH:
        return "its shape would have to be stretched too much"
    tall, wide = max(1, round(place.height)), max(1, round(donor.shape.shape[1] * scale))
    shape = resize_ids(donor.shape.astype(np.uint8), (wide, tall)).astype(bool)
    left, top = round(place.x - wide / 2), place.foot - tall
    if left < 0 or top < 0 or left + wide > width or place.foot + 1 >= height:
        return "it would leave the frame"
    below = labels[place.foot + 1, left : left + wide][shape[-max(1, tall // 10) :].any(axis=0)]
    if not len(below) or np.isin(below, list(places.grounds)).mean() < 0.5:
        return "no ground that the class stands on"
    whole = np.zeros(ids.shape, bool)
    whole[top : place.foot, left : left + wide] = shape
    visible = whole & (things.foot <= place.foot)
    if visible.sum() < max(min_area, _LEAST_VISIBLE * whole.sum()):
        return "too little of it would be visible"
    hidden, counts = np.unique(ids[visible], return_counts=True)
    for value, count in zip(hidden.tolist(), counts.tolist(), strict=True):
        if value >= table.factor and count > _MOST_HIDDEN * things.areas[value]:
            return "it would occlude another instance"
    return InsertedInstance(donor, mask_box(visible), visible, whole, scale)


@dataclass(frozen=True)
class StandingThings:
    """foot: int32 (H, W), for each pixel the row below the lowest pixel of the object that it belongs to, 0 on the
    ground; areas: pixels of every instance id.
    """

    foot: np.ndarray
    areas: dict[int, int]


def standing_things(ids: np.ndarray, labels: np.ndarray, grounds: Collection[int], table: LabelTable) -> StandingThings:
    """The lowest row of every object: instances and groups as units, other labels by connected pieces.

    Args:
        ids: int32 (H, W).
        labels: label ids (H, W).
        grounds: labels that objects stand on.
        table: label table of the data set.
    """
    foot = np.zeros(ids.shape, np.int32)
    values, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(ids.shape)
    for number, value in enumerate(values.tolist()):
        if value >= table.factor:
            where = inverse == number
            foot[where] = np.flatnonzero(where.any(axis=1))[-1] + 1
    rest = ~table.is_instance(ids) & ~np.isin(labels, list(grounds))
    for label in np.unique(labels[rest]).tolist():
        count, pieces = cv2.connectedComponents((rest & (labels == label)).astype(np.uint8), connectivity=8)
        lowest = np.zeros(count, np.int32)
        rows = np.arange(1, ids.shape[0] + 1, dtype=np.int32)[:, None]
        np.maximum.at(lowest, pieces.ravel(), np.broadcast_to(rows, pieces.shape).ravel())
        inside = pieces > 0
        foot[inside] = lowest[pieces[inside]]
    single = table.is_instance(values)
    return StandingThings(foot, dict(zip(values[single].tolist(), counts[single].tolist(), strict=True)))


def with_inserted(ids: np.ndarray, row: Mapping[str, Any]) -> np.ndarray:
    """The id map int32 (H, W) with the instance of an `inserted_row`; ids that it covers are overwritten."""
    mask, (left, top, _, _) = mask_in_crop(row)
    rows, columns = np.nonzero(mask)
    changed = ids.copy()
    changed[rows + top, columns + left] = row["value"]
    return changed


def inserted_row(
    image: np.ndarray, newcomer: InsertedInstance, frame_id: str, class_name: str, value: int, margin: float
) -> dict[str, Any]:
    """An inserted instance as a row of `selected_instances`, to be repainted at its new place.

    Args:
        image: uint8 (H, W, 3), the frame that it is inserted into.
        value: its id there.
        margin: see `crops.crop_box`.

    Returns:
        The columns of `selected_instances` except rank; instance_id is the donor's, frame_id that of the new frame.
    """
    height, width = image.shape[:2]
    box = crop_box(newcomer.box, margin, width, height)
    crop, mask = cut_crop(image, np.where(newcomer.visible, value, 0), value, box)
    return {
        "instance_id": newcomer.donor.instance_id,
        "frame_id": frame_id,
        "class_name": class_name,
        "value": value,
        "area": int(newcomer.visible.sum()),
        **dict(zip(("x1", "y1", "x2", "y2"), newcomer.box, strict=True)),
        **dict(zip(("crop_x1", "crop_y1", "crop_x2", "crop_y2"), box, strict=True)),
        "crop_png": encode_png(crop),
        "mask_counts": encode_rle(mask)["counts"],
    }


def pasted_donor(donor_crop: np.ndarray, donor_mask: np.ndarray, newcomer: InsertedInstance, box: Box) -> np.ndarray:
    """The donor's own pixels at the size of the inserted instance, in its crop: the control that repaints nothing.

    Args:
        donor_crop: uint8 (S, S, 3).
        donor_mask: bool (S, S), the whole donor.
        box: the crop box of the inserted instance, see `inserted_row`.

    Returns:
        uint8 (s, s, 3), black outside the donor.
    """
    x1, y1, x2, y2 = mask_box(donor_mask)
    left, top, right, bottom = mask_box(newcomer.whole)
    scaled = resize_image(np.ascontiguousarray(donor_crop[y1:y2, x1:x2]), (right - left, bottom - top))
    side = box[2] - box[0]
    laid = np.zeros((side, side, 3), np.uint8)
    rows, columns = (
        slice(max(start - offset, 0), min(end - offset, side))
        for start, end, offset in ((top, bottom, box[1]), (left, right, box[0]))
    )
    y, x = box[1] + rows.start - top, box[0] + columns.start - left
    laid[rows, columns] = scaled[y : y + rows.stop - rows.start, x : x + columns.stop - columns.start]
    return laid
