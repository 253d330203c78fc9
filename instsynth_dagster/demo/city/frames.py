"""A demo city on disk: scenes as frames in Cityscapes layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.demo.city.scene import render_scene
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import DemoCitySettings


def city_frames(
    city: str, settings: DemoCitySettings, palette: str = "full"
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Frame id, image uint8 (H,W,3) and ids int32 (H,W) of every frame of a city; its name is part of the seed."""
    for index in range(settings.frames_per_city):
        scene = render_scene(_seed(settings, city, index), settings.width, settings.height, palette=palette)
        yield _frame_id(city, index), scene.image, scene.ids


def write_demo_city(root: Path, split: str, city: str, settings: DemoCitySettings) -> int:
    """Writes a city below `root` and returns its number of frames."""
    for frame_id, image, ids in city_frames(city, settings, _palette(settings, split, city)):
        write_frame(root, split, frame_id, image, ids)
    return settings.frames_per_city


def repainted_frame(frame_id: str, settings: DemoCitySettings, split: str, number: int) -> np.ndarray:
    """A frame of a demo city drawn again with every instance in a random colour of the full palette.

    Nothing else changes, so that inside an instance's mask it is what a perfect generator would have painted.

    Args:
        number: another one gives other colours.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: no frame of a demo city with these settings has this id.
    """
    city, _, rest = frame_id.partition("_")
    index = int(rest.partition("_")[0] or -1)
    if frame_id != _frame_id(city, index) or not 0 <= index < settings.frames_per_city:
        raise ValueError(f"{frame_id!r} is no frame of a demo city of {settings.frames_per_city} frames")
    seed, palette = _seed(settings, city, index), _palette(settings, split, city)
    return render_scene(seed, settings.width, settings.height, palette=palette, repaint=number).image


def _palette(settings: DemoCitySettings, split: str, city: str) -> str:
    return settings.palette if split == "train" or city in settings.like_train else "full"


def _seed(settings: DemoCitySettings, city: str, index: int) -> int:
    return content_seed(settings.seed, city, index)


def _frame_id(city: str, index: int) -> str:
    return f"{city}_{index:06d}_000019"
