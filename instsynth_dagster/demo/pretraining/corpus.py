"""Captioned instances by the ten thousand: the "web-scale" data of the mini foundation models.

Square crops around instances of procedural scenes that no demo city shows, with masks and captions, the same number of
every class. All are kept at the smallest size, and those that lose by it at the larger sizes too, as memory-mapped
arrays below one folder.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
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
COLUMNS = ("class_name", "color", "variant", "caption", "scene", "area", "side", "number")
_CHUNK = 16


@dataclass(frozen=True)
class CorpusRecipe:
    """`per_class` crops of every class, of instances with at least `min_area` pixels.

    `sides` are the widths in pixels, ascending: the first is of all crops, each further one of those that are wider
    in their scene than the one before.
    """

    per_class: int = 4000
    sides: tuple[int, ...] = (96, 128, 192)
    min_area: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Corpus:
    """Captioned crops, shuffled by nature: in the order of the scenes.

    images: uint8 (N, S, S, 3) RGB; masks: bool (N, S, S), True on the instance in the middle; table: class_name, color,
    variant, caption, scene, area (pixels in the scene), side (of the crop in the scene, pixels) and number (the same
    for a crop at all sides) of each.
    """

    images: np.ndarray
    masks: np.ndarray
    table: pd.DataFrame

    def __len__(self) -> int:
        return len(self.table)

    def take(self, which: slice | np.ndarray) -> Corpus:
        """Some of the crops, by a slice or by numbers."""
        return Corpus(self.images[which], self.masks[which], self.table.iloc[which].reset_index(drop=True))


def build_corpora(
    folder: Path, recipe: CorpusRecipe, *, progress: Progress, workers: int | None = None
) -> dict[int, Corpus]:
    """Render a corpus into `folder`, or open it when it is there.

    Args:
        workers: processes that draw scenes; by default one per processor.

    Returns:
        The corpus at each of the recipe's sides.
    """
    if not (folder / f"{recipe.sides[0]}.parquet").exists():
        _render(folder, recipe, progress, workers or os.cpu_count() or 1)
    corpora = {}
    for side in recipe.sides:
        table = pd.read_parquet(folder / f"{side}.parquet")
        images, masks = (np.load(folder / f"{name}_{side}.npy", mmap_mode="r") for name in ("images", "masks"))
        corpora[side] = Corpus(images[: len(table)], masks[: len(table)], table)
    return corpora


def _render(folder: Path, recipe: CorpusRecipe, progress: Progress, workers: int) -> None:
    """Scenes 0, 1, 2, ... until every class has its share; the table of the smallest side is written last."""
    total, done = recipe.per_class * len(CITYSCAPES.classes), 0
    folder.mkdir(parents=True, exist_ok=True)
    writers = [_SideWriter(folder, side, total) for side in recipe.sides]
    smaller = [0, *recipe.sides[:-1]]
    wanted = dict.fromkeys(CITYSCAPES.classes, recipe.per_class)
    for crop, mask, row in _all_crops(recipe, workers):
        if wanted[row["class_name"]]:
            wanted[row["class_name"]] -= 1
            row["number"] = done
            done += 1
            for writer, enough in zip(writers, smaller, strict=True):
                if row["side"] > enough:
                    writer.add(crop, mask, row)
            progress(done, total)
        if not any(wanted.values()):
            break
    for writer in reversed(writers):
        writer.close()


class _SideWriter:
    """The crops of one side; the files have room for all, and take it only for those that come."""

    def __init__(self, folder: Path, side: int, most: int) -> None:
        self._folder, self._side = folder, side
        self._rows: list[dict[str, Any]] = []
        arrays = (
            (f"images_{side}.npy", np.uint8, (most, side, side, 3)),
            (f"masks_{side}.npy", np.bool_, (most, side, side)),
        )
        self._images, self._masks = (
            np.lib.format.open_memmap(folder / name, "w+", kind, shape) for name, kind, shape in arrays
        )

    def add(self, crop: np.ndarray, mask: np.ndarray, row: dict[str, Any]) -> None:
        number = len(self._rows)
        self._images[number], self._masks[number] = resize_image(crop, (self._side,) * 2), resize_mask(mask, self._side)
        self._rows.append(row)

    def close(self) -> None:
        self._images.flush()
        self._masks.flush()
        pd.DataFrame(self._rows, columns=[*COLUMNS]).to_parquet(self._folder / f"{self._side}.parquet")


def _all_crops(recipe: CorpusRecipe, workers: int) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Endless, in the order of the scenes whatever the number of workers."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once for the workers of all corpora
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        start = 0
        while True:
            scenes = range(start, start + _CHUNK * workers)
            for crops in pool.map(partial(scene_crops, recipe=recipe), scenes):
                yield from crops
            start = scenes.stop


def scene_crops(number: int, recipe: CorpusRecipe) -> list[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Crop, mask (both as they lie in the scene) and table row of every large enough instance of a corpus scene."""
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
        row |= {"caption": caption(about), "scene": number, "area": area, "side": len(crop)}
        crops.append((crop, mask, row))
    return crops
