"""Captioned instances by the ten thousand: the "web-scale" data of the mini foundation models.

Square crops around instances of procedural scenes that no demo city shows, with masks and captions, the same number of
every class. Kept as memory-mapped arrays below one folder.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CLASSES
from instsynth_dagster.data.images import resize_image
from instsynth_dagster.data.masks import mask_box, resize_mask
from instsynth_dagster.demo.city import caption, render_scene
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import Progress
from instsynth_dagster.synthesis.crops import crop_box, cut_crop

SCENE_SIZE = (512, 256)
CLASS_WEIGHTS = {
    "person": 1.6,
    "rider": 3.0,
    "truck": 5.0,
    "bus": 4.0,
    "train": 5.5,
    "motorcycle": 4.0,
    "bicycle": 2.0,
}
"""Makes the classes about equally frequent, so that few scenes go to waste."""
MARGINS = (0.15, 0.4)
_CHUNK = 16


@dataclass(frozen=True)
class CorpusRecipe:
    """`per_class` crops of every class, `side` pixels wide, of instances with at least `min_area` pixels."""

    per_class: int = 4000
    side: int = 96
    min_area: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Corpus:
    """Captioned crops, shuffled by nature: in the order of the scenes.

    images: uint8 (N, S, S, 3) RGB; masks: bool (N, S, S), True on the instance in the middle; table: class_name, color,
    variant, caption, scene and area (pixels in the scene) of each.
    """

    images: np.ndarray
    masks: np.ndarray
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def take(self, which: slice | np.ndarray) -> Corpus:
        """Some of the crops, by a slice or by numbers."""
        return Corpus(self.images[which], self.masks[which], self.table.iloc[which].reset_index(drop=True))


def build_corpus(folder: Path, recipe: CorpusRecipe, *, progress: Progress, workers: int = 2) -> Corpus:
    """Render a corpus into `folder`, or open it when it is there."""
    if not (folder / "table.parquet").exists():
        _render(folder, recipe, progress, workers)
    return Corpus(
        np.load(folder / "images.npy", mmap_mode="r"),
        np.load(folder / "masks.npy", mmap_mode="r"),
        pd.read_parquet(folder / "table.parquet"),
    )


def _render(folder: Path, recipe: CorpusRecipe, progress: Progress, workers: int) -> None:
    """Scenes 0, 1, 2, ... until every class has its share; the table is written last."""
    total, side = recipe.per_class * len(CLASSES), recipe.side
    folder.mkdir(parents=True, exist_ok=True)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (total, side, side, 3))
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.bool_, (total, side, side))
    rows: list[dict[str, Any]] = []
    wanted = dict.fromkeys(CLASSES, recipe.per_class)
    for crop, mask, row in _all_crops(recipe, workers):
        if wanted[row["class_name"]]:
            wanted[row["class_name"]] -= 1
            images[len(rows)], masks[len(rows)] = crop, mask
            rows.append(row)
            progress(len(rows), total)
        if not any(wanted.values()):
            break
    images.flush()
    masks.flush()
    pd.DataFrame(rows).to_parquet(folder / "table.parquet")


def _all_crops(recipe: CorpusRecipe, workers: int) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Endless, in the order of the scenes whatever the number of workers."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        start = 0
        while True:
            scenes = range(start, start + _CHUNK * workers)
            for crops in pool.map(partial(scene_crops, recipe=recipe), scenes):
                yield from crops
            start = scenes.stop


def scene_crops(number: int, recipe: CorpusRecipe) -> list[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Crop, mask and table row of every large enough instance of a corpus scene."""
    seed = content_seed("corpus", recipe.seed, number)
    scene = render_scene(seed, *SCENE_SIZE, class_weights=CLASS_WEIGHTS)
    crops = []
    for value, about in scene.attributes.items():
        whole = scene.ids == value
        area = int(whole.sum())
        if area < recipe.min_area:
            continue
        margin = np.random.default_rng(content_seed(seed, value)).uniform(*MARGINS)
        crop, mask = cut_crop(scene.image, scene.ids, value, crop_box(mask_box(whole), margin, *SCENE_SIZE))
        row: dict[str, Any] = {"class_name": about.class_name, "color": about.color, "variant": about.variant}
        row |= {"caption": caption(about), "scene": number, "area": area}
        crops.append((resize_image(crop, (recipe.side,) * 2), resize_mask(mask, recipe.side), row))
    return crops
