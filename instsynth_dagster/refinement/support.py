"""Prototypes of a data set: computed from real frames of the train cities, and stored as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.refinement.prototypes import Prototypes, build_prototypes
from instsynth_dagster.seeds import content_seed

if TYPE_CHECKING:
    from instsynth_dagster.refinement.features import Extractor

BACKGROUND, CENTER = "background", "center"


def support_frames(frame_ids: Sequence[str], count: int) -> list[str]:
    """The frames of a city from which prototypes are made: the first `count` in the order of a hash of their names."""
    return sorted(frame_ids, key=lambda frame_id: content_seed("support", frame_id))[:count]


def class_masks(
    ids: np.ndarray, classes: Sequence[str], labels: LabelTable
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Masks bool (H, W) of the instances of each class in an id map int (H, W), and of its background.

    Background is evaluated stuff. Groups, void and instances of other classes are in neither.
    """
    masks = {}
    for name in classes:
        mask = labels.of_class(ids, name)
        if mask.any():
            masks[name] = mask
    return masks, np.isin(ids, labels.stuff_ids)


def dataset_prototypes(
    frames: Iterable[tuple[np.ndarray, np.ndarray]], extract: Extractor, classes: Sequence[str], labels: LabelTable
) -> Prototypes:
    """Prototypes of frames of (image uint8 (H, W, 3), ids int32 (H, W)), read one at a time."""

    def support() -> Iterator[tuple[np.ndarray, Mapping[str, np.ndarray], np.ndarray]]:
        for image, ids in frames:
            yield extract(image), *class_masks(ids, classes, labels)

    return build_prototypes(support())


def to_table(prototypes: Prototypes) -> pd.DataFrame:
    """A table with columns class_name and vector; background and center are its last rows."""
    center = np.broadcast_to(prototypes.center, prototypes.background.shape)
    rows = {**prototypes.classes, BACKGROUND: prototypes.background, CENTER: center}
    return pd.DataFrame({"class_name": list(rows), "vector": [vector.tolist() for vector in rows.values()]})


def from_table(table: pd.DataFrame) -> Prototypes:
    """Inverse of `to_table`."""
    rows = {
        name: np.asarray(vector, dtype=np.float32)
        for name, vector in zip(table["class_name"], table["vector"], strict=True)
    }
    background, center = rows.pop(BACKGROUND), rows.pop(CENTER)
    return Prototypes(rows, background, center)
