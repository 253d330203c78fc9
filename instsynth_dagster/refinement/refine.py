"""APF, APR and SABR combined, for the instances of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.refinement.boundary import Refiner, accepted, boundary_band, redraw
from instsynth_dagster.refinement.prototypes import Prototypes, filter_regions, relabel_free
from instsynth_dagster.settings import BoundarySettings, RefinementSettings
from instsynth_dagster.synthesis.crops import Box

KEPT, LOST = "kept", "lost"


@dataclass(frozen=True)
class Refined:
    """`ids` int32 (H, W): the id map with refined instances; `records`: for each instance, what changed and why.

    A record holds value, class_name, pixels_before, pixels_after, freed (by APF), returned and given_away (by APR),
    unclear, border_added and border_removed (by SABR), cosine_kept, refiner ("accepted", "rejected", "off"), verdict.
    """

    ids: np.ndarray
    records: list[dict[str, Any]]


def refine_instances(
    image: np.ndarray,
    ids: np.ndarray,
    targets: Sequence[int],
    features: np.ndarray | None,
    prototypes: Prototypes | None,
    refiner: Refiner | None,
    settings: RefinementSettings,
    labels: LabelTable,
    *,
    grow: bool = True,
) -> Refined:
    """Refine the masks of some instances of an image.

    Masks stay disjoint and ids are unchanged: an instance may take pixels of stuff and of unlabelled ground, never
    those of another instance. Pixels that it loses get the label of the nearest stuff, or unlabeled where APR was not
    clear. An instance that loses more than `1 - settings.min_left` of its area becomes a group of its label, which is
    ignored and not background.

    Args:
        image: uint8 (H, W, 3) RGB.
        ids: int32 (H, W) id map, the coarse labels.
        targets: the ids to refine; the others are unchanged.
        features: float32 (h, w, D) of the image; None skips APF and APR.
        prototypes: of the same features.
        refiner: None skips SABR.
        grow: whether a mask may gain pixels. A generator that paints inside a mask cannot have painted beyond it.
    """
    refined = ids.copy()
    counts = {value: _Counts(int((ids == value).sum())) for value in targets}
    masks = {value: ids == value for value in targets}
    unclear = np.zeros(ids.shape, dtype=bool)
    if features is not None and prototypes is not None:
        features = prototypes.centred(features)
        for value in targets:
            masks[value], lost = _filtered(
                value, masks[value], ids, features, prototypes, settings, labels, counts[value]
            )
            unclear |= lost
    if refiner is not None and settings.boundary is not None:
        _redrawn(image, refined, masks, unclear, refiner, settings.boundary, labels, counts, grow)
    _write(refined, ids, masks, unclear, labels)
    return Refined(refined, [_record(value, refined, counts[value], settings, labels) for value in targets])


@dataclass
class _Counts:
    before: int
    freed: int = 0
    returned: int = 0
    given_away: int = 0
    unclear: int = 0
    border_added: int = 0
    border_removed: int = 0
    refiner: str = "off"


def _filtered(
    value: int,
    mask: np.ndarray,
    ids: np.ndarray,
    features: np.ndarray,
    prototypes: Prototypes,
    settings: RefinementSettings,
    labels: LabelTable,
    counts: _Counts,
) -> tuple[np.ndarray, np.ndarray]:
    """APF and APR for one instance: its mask, and the pixels without a clear label."""
    name = labels.label_of(value).name
    if name not in prototypes.classes:
        return mask, np.zeros_like(mask)
    kept, freed = filter_regions(features, mask, prototypes.classes[name], settings.min_cosine)
    behind = ~labels.is_instance(ids)
    found = relabel_free(
        features,
        freed,
        {name: kept},
        behind,
        prototypes,
        blend=settings.blend,
        min_score=settings.min_score,
        margin=settings.margin,
    )
    clear_background = found["background"]
    returned = found.get(name, np.zeros_like(mask))
    lost = freed & ~returned & ~clear_background
    counts.freed, counts.returned = int(freed.sum()), int(returned.sum())
    counts.given_away, counts.unclear = int(clear_background.sum()), int(lost.sum())
    return kept | returned, lost


def _redrawn(
    image: np.ndarray,
    ids: np.ndarray,
    masks: dict[int, np.ndarray],
    unclear: np.ndarray,
    refiner: Refiner,
    chosen: BoundarySettings,
    labels: LabelTable,
    counts: Mapping[int, _Counts],
    grow: bool,
) -> None:
    """SABR for all instances of the image, proposals in descending order of confidence; masks are changed in place."""
    present = [value for value, mask in masks.items() if mask.any()]
    coarse = np.array([masks[value] for value in present])
    proposals = refiner.refine(image, [_tight_box(masks[value]) for value in present], coarse)
    # pixels that no instance may take: those of instances that are not refined, and those taken already
    others = labels.is_instance(ids) & ~np.isin(ids, present)
    taken = others.copy()
    for index in sorted(range(len(present)), key=lambda index: -proposals[index].score):
        value, proposal = present[index], proposals[index]
        mask = masks[value]
        if not accepted(proposal, mask, chosen.min_iou, chosen.min_score):
            counts[value].refiner = "rejected"
            taken |= mask
            continue
        interior = np.zeros_like(mask)
        for other in present:
            if other != value:
                interior |= masks[other]
        writable = (boundary_band(mask, chosen.band) | unclear) & ~taken & ~interior
        if not grow:
            writable &= ids == value
        new = redraw(mask, proposal.mask, writable)
        counts[value].refiner = "accepted"
        counts[value].border_added = int((new & ~mask).sum())
        counts[value].border_removed = int((mask & ~new).sum())
        masks[value] = new
        taken |= new


def _write(
    refined: np.ndarray, ids: np.ndarray, masks: Mapping[int, np.ndarray], unclear: np.ndarray, labels: LabelTable
) -> None:
    """Write the new masks into the id map; pixels that they left become the nearest stuff, or unlabeled where
    unclear.
    """
    claimed = np.zeros(ids.shape, dtype=bool)
    for mask in masks.values():
        claimed |= mask
    left = np.isin(ids, list(masks)) & ~claimed
    if left.any():
        refined[left] = _nearest_stuff(ids, labels)[left]
    refined[left & unclear] = labels.unlabeled
    for value, mask in masks.items():
        refined[mask] = value


def _nearest_stuff(ids: np.ndarray, labels: LabelTable) -> np.ndarray:
    """For every pixel the id of the nearest pixel that belongs to no instance; unlabeled where there is none."""
    instances = labels.is_instance(ids)
    if instances.all():
        return np.full_like(ids, labels.unlabeled)
    _, nearest = cv2.distanceTransformWithLabels(
        instances.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(int(nearest.max()) + 1, dtype=ids.dtype)
    value_of[nearest[~instances]] = ids[~instances]
    return value_of[nearest]


def _record(
    value: int, refined: np.ndarray, counts: _Counts, settings: RefinementSettings, labels: LabelTable
) -> dict[str, Any]:
    """The record of one instance; one that lost too much becomes a group in the id map."""
    after = int((refined == value).sum())
    lost = after < settings.min_left * counts.before
    if lost:
        refined[refined == value] = labels.label_id(value)
    return {
        "value": value,
        "class_name": labels.label_of(value).name,
        "pixels_before": counts.before,
        "pixels_after": 0 if lost else after,
        "freed": counts.freed,
        "returned": counts.returned,
        "given_away": counts.given_away,
        "unclear": counts.unclear,
        "border_added": counts.border_added,
        "border_removed": counts.border_removed,
        "refiner": counts.refiner,
        "verdict": LOST if lost else KEPT,
    }


def _tight_box(mask: np.ndarray) -> Box:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height
