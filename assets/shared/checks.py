"""Checks of several artifacts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import pandas as pd

from assets.shared.made import Check


def train_frames(splits: pd.DataFrame, frames: pd.DataFrame, city_of: Callable[[str], str]) -> set[str]:
    """Ids of indexed frames that belong to train cities, both by the index and by the data set itself.

    Args:
        splits: rows of `splits`.
        frames: rows of `frames` with columns frame_id and city.
        city_of: the data set's city of a frame id.
    """
    train = set(splits.loc[splits["split"] == "train", "city"])
    rows = zip(frames["frame_id"], frames["city"], strict=True)
    return {frame_id for frame_id, city in rows if city in train and city_of(frame_id) == city}


def known_frames(name: str, frame_ids: Iterable[str], known: Collection[str]) -> Check:
    """The blocking check `name`: whether rows show only frames that may be used for training."""
    foreign = sorted(set(frame_ids) - set(known))
    text = f"{foreign[0]} is no frame of a train city" if foreign else "every row comes from a frame of a train city"
    return Check(name, not foreign, text, {"foreign": len(foreign)})
