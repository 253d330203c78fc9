"""A demo city on disk: scenes as frames in Cityscapes layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.demo.city.scene import render_scene
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import DemoCitySettings


def city_frames(city: str, settings: DemoCitySettings) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Frame id, image uint8 (H,W,3) and ids int32 (H,W) of every frame of a city; its name is part of the seed."""
    for index in range(settings.frames_per_city):
        scene = render_scene(content_seed(settings.seed, city, index), settings.width, settings.height)
        yield f"{city}_{index:06d}_000019", scene.image, scene.ids


def write_demo_city(root: Path, split: str, city: str, settings: DemoCitySettings) -> int:
    """Writes a city below `root` and returns its number of frames."""
    for frame_id, image, ids in city_frames(city, settings):
        write_frame(root, split, frame_id, image, ids)
    return settings.frames_per_city
