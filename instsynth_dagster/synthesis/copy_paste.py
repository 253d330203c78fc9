"""Simple copy-paste (Ghiasi et al., 2021) of real instances within a city: the control that needs no generator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from instsynth_dagster.data.images import decode_png, resize_ids, resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import decode_rle, mask_box
from instsynth_dagster.errors import DatasetError
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.integration import paste

_SCALES = (0.8, 1.25)


def target_frames(row: Mapping[str, Any], frame_ids: Sequence[str], seed: int) -> list[str]:
    """Frames into which an instance may be pasted, in the order in which they are tried: other frames than its own
    where the city has any.
    """
    others = [frame_id for frame_id in frame_ids if frame_id != row["frame_id"]] or list(frame_ids)
    first = content_seed("copy-paste frame", row["instance_id"], row["slot"], seed) % len(others)
    return [*others[first:], *others[:first]]


def first_with_room(
    row: Mapping[str, Any], frame_ids: Sequence[str], seed: int, ids_of: Callable[[str], np.ndarray], labels: LabelTable
) -> tuple[str, np.ndarray]:
    """The first of `target_frames` that has a free number for another instance of the class, and its id map.

    Args:
        ids_of: id map int32 (H, W) of a frame.

    Raises:
        DatasetError: every frame has as many instances of the class as the id map can number.
    """
    for frame_id in target_frames(row, frame_ids, seed):
        ids = ids_of(frame_id)
        if free_id(ids, row["class_name"], labels) is not None:
            return frame_id, ids
    raise DatasetError(
        f"copy_paste: {row['instance_id']} cannot be pasted: all {len(frame_ids)} frames of its city hold "
        f"{labels.factor} instances of {row['class_name']}, the most that id maps can number; remove the arm"
    )


def copy_paste(
    row: Mapping[str, Any],
    frame_id: str,
    image: np.ndarray,
    ids: np.ndarray,
    settings: IntegrationSettings,
    seed: int,
    labels: LabelTable,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Paste a selected instance into another frame, scaled by 0.8 to 1.25, with its feet at the same height in the
    image.

    Args:
        row: row of `synthetic_windows.repainted_instances`, not repainted.
        frame_id, image, ids: the target frame (`first_with_room`), uint8 (H, W, 3) and int32 (H, W).
        seed: base seed.

    Returns:
        The composite, the id map with the instance under a new id (ids that it covers are overwritten), and the row as
        if the instance had been selected there.
    """
    rng = np.random.default_rng(content_seed("copy-paste place", row["instance_id"], row["slot"], seed))
    height, width = ids.shape
    crop = decode_png(row["crop_png"])
    mask = decode_rle({"size": list(crop.shape[:2]), "counts": row["mask_counts"]})
    x1, y1, x2, y2 = mask_box(mask)
    fits = min(width / (x2 - x1), height / (y2 - y1))
    side = max(1, int(len(crop) * min(rng.uniform(*_SCALES), fits)))
    scale = side / len(crop)
    scaled = resize_ids(mask.astype(np.uint8), (side, side)).astype(bool)
    if not scaled.any():
        scaled[int(scale * (y1 + y2) / 2), int(scale * (x1 + x2) / 2)] = True
    left, top, right, bottom = mask_box(scaled)
    x = int(rng.integers(0, max(1, width - (right - left) + 1)))
    y = min(max(int(row["y2"]) - (bottom - top), 0), max(0, height - (bottom - top)))
    box = (x - left, y - top, x - left + side, y - top + side)
    composite = paste(image, resize_image(crop, (side, side)), scaled, box, settings)
    value = free_id(ids, row["class_name"], labels)
    assert value is not None, "see first_with_room"
    pasted = ids.copy()
    inside = scaled[top:bottom, left:right][: height - y, : width - x]
    pasted[y : y + inside.shape[0], x : x + inside.shape[1]][inside] = value
    place = {"x1": x, "y1": y, "x2": x + inside.shape[1], "y2": y + inside.shape[0]}
    return composite, pasted, dict(row) | place | {"frame_id": frame_id, "value": value}


def free_id(ids: np.ndarray, class_name: str, labels: LabelTable) -> int | None:
    """The lowest instance id of a class that is unused in a frame; None where all are used."""
    used = set(np.unique(ids[labels.of_class(ids, class_name)]).tolist())
    first = labels.instance_id(labels.id_of(class_name), 0)
    return next((value for value in range(first, first + labels.factor) if value not in used), None)
