"""The same instances repainted by every generator, in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.images import resize_image
from instsynth_dagster.evaluation.report.gallery import contact_sheet
from instsynth_dagster.synthesis.gates import Sources, pasted_crops

SIDE_BY_SIDE = "side_by_side.png"
_TILE = 160
_COLUMNS = 8


def side_by_side(store: Store, generators: Sequence[str], partitions: Sequence[str]) -> np.ndarray:
    """One large instance of each partition, until a row is full: sources first, then a row for each generator.

    Args:
        partitions: partitions of `selected_instances`, `<city>|<class>`.

    Returns:
        uint8 (H, W, 3).
    """
    filled = ((key, table) for key in partitions if len(table := store.read_lazily("selected_instances", key)))
    columns = [(key, _largest(table)) for key, table in islice(filled, _COLUMNS)]
    if not columns:
        return contact_sheet([], 1)
    tiles, captions = [], []
    for key, row in columns:
        tiles.append(next(iter(Sources(row).values()))[0])
        captions.append(f"source, {key.split('|')[1]}")
    for name in generators:
        for key, row in columns:
            crops = store.read_lazily(f"{name}/inpainted_crops", key)
            crop = crops[crops["instance_id"] == row["instance_id"].iloc[0]][:1]
            tiles.append(next(pasted_crops(crop, Sources(row)))[0])
            captions.append(f"{name}: {crop['prompt'].iloc[0]}")
    return contact_sheet([resize_image(tile, (_TILE, _TILE)) for tile in tiles], len(columns), captions)


def _largest(selected: pd.DataFrame) -> pd.DataFrame:
    """The largest instance whose crop needs no padding, or the largest one."""
    whole = selected[(selected["crop_x1"] >= 0) & (selected["crop_y1"] >= 0)]
    return selected.loc[[(whole if len(whole) else selected)["area"].idxmax()]]
