"""A demo city on disk: scenes as frames in Cityscapes layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.demo.city.scene import Scene, render_scene
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import DemoCitySettings


def city_frames(
    city: str, settings: DemoCitySettings, split: str = "val"
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Frame id, image uint8 (H,W,3) and ids int32 (H,W) of every frame of a city; its name is part of the seed."""
    for index in range(frame_count(settings, split)):
        scene = _draw(city, index, settings, split)
        yield _frame_id(city, index), scene.image, scene.ids


def write_demo_city(root: Path, split: str, city: str, settings: DemoCitySettings) -> int:
    """Write a city below `root`; returns its number of frames."""
    for frame_id, image, ids in city_frames(city, settings, split):
        write_frame(root, split, frame_id, image, ids, portable=True)
    return frame_count(settings, split)


def frame_count(settings: DemoCitySettings, split: str) -> int:
    """Frames of a city of a split."""
    return settings.frames_per_city if split == "train" else settings.scored_frames or settings.frames_per_city


def repainted_frame(frame_id: str, settings: DemoCitySettings, split: str, number: int) -> np.ndarray:
    """A frame of a demo city rendered again with every instance in a random colour of the full palette.

    Nothing else changes, so that inside an instance's mask it is what a perfect generator would have painted.

    Args:
        number: another one gives other colours.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: no frame of a demo city with these settings has this id.
    """
    city, _, rest = frame_id.partition("_")
    index, count = int(rest.partition("_")[0] or -1), frame_count(settings, split)
    if frame_id != _frame_id(city, index) or not 0 <= index < count:
        raise ValueError(f"{frame_id!r} is no frame of a demo city of {count} frames")
    return _draw(city, index, settings, split, number).image


def _draw(city: str, index: int, settings: DemoCitySettings, split: str, repaint: int | None = None) -> Scene:
    """A frame of a train city, or of one like it, in their palette and with their number of each class; of any other
    city in all colours with the usual numbers."""
    seed = content_seed(settings.seed, city, index)
    if split == "train" or city in settings.like_train:
        palette, weights = settings.palette, settings.train_counts
    else:
        palette, weights = "full", {}
    return render_scene(seed, settings.width, settings.height, weights, palette, repaint)


def _frame_id(city: str, index: int) -> str:
    return f"{city}_{index:06d}_000019"
