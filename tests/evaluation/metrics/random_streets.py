"""Random id maps and predictions that meet every rule: ignore, groups, small ones, duplicates, ties."""

from __future__ import annotations

import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import encode_rle

SIZE = (96, 160)
GROUPS = [CITYSCAPES.by_name[name].id for name in ("person", "car", "bicycle")]
VOIDS = [CITYSCAPES.by_name[name].id for name in ("out of roi", "static", "caravan", "rail track")]
CARAVAN = CITYSCAPES.by_name["caravan"].id * 1000 + 3


def ellipse(rng: np.random.Generator, size: tuple[int, int] = SIZE, largest: int = 26) -> np.ndarray:
    """bool (H, W) with one random ellipse, somewhere, partly outside at times."""
    y, x = np.mgrid[: size[0], : size[1]]
    cy, cx = rng.uniform(0, size[0]), rng.uniform(0, size[1])
    ry, rx = rng.uniform(2, largest, 2)
    return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1


def random_ids(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> np.ndarray:
    """int32 (H, W): road, void, caravans, groups and instances of all sizes, ids divisible by 256."""
    ids = np.full(size, CITYSCAPES.by_name["road"].id, dtype=np.int32)
    instances = [
        CITYSCAPES.by_name[name].id * 1000 + index for name in CITYSCAPES.classes for index in range(rng.integers(0, 4))
    ]
    values = [
        *rng.choice(VOIDS, 2),
        CARAVAN,
        *rng.choice(GROUPS, 3),
        *rng.permutation(instances),
    ]
    for value in values:
        ids[ellipse(rng, size)] = value
    return ids


def random_predictions(rng: np.random.Generator, ids: np.ndarray, frame_id: str) -> pd.DataFrame:
    """Shaken copies of instances and groups, duplicates, strays and an empty mask; scores of one decimal, so ties."""
    rows = []
    values = [value for value in np.unique(ids) if value >= 1000 or value in GROUPS]
    for value in values:
        label_id = value // 1000 if value >= 1000 else value
        name = next(
            (name for name in CITYSCAPES.classes if CITYSCAPES.by_name[name].id == label_id),
            str(rng.choice(CITYSCAPES.classes)),
        )
        for _ in range(rng.integers(0, 4)):
            mask = np.roll(ids == value, rng.integers(-3, 4, 2), axis=(0, 1))
            rows.append((name, mask ^ (ellipse(rng, ids.shape, 5) if rng.random() < 0.5 else False)))
    rows += [(str(rng.choice(CITYSCAPES.classes)), ellipse(rng, ids.shape)) for _ in range(6)]
    rows.append((CITYSCAPES.classes[0], np.zeros(ids.shape, dtype=bool)))
    return prediction_table(frame_id, [(name, round(float(rng.random()), 1), mask) for name, mask in rows])


def prediction_table(frame_id: str, rows: list[tuple[str, float, np.ndarray]]) -> pd.DataFrame:
    """Prediction table of (class_name, score, bool (H, W) mask) rows."""
    table = pd.DataFrame(
        [
            (frame_id, name, score, encode_rle(mask)["counts"], mask.shape[0], mask.shape[1])
            for name, score, mask in rows
        ],
        columns=["frame_id", "class_name", "score", "mask_counts", "mask_height", "mask_width"],
    )
    return table.astype({"score": float})
