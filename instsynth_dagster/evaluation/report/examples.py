"""Pictures for the report, picked from the store: stages of repainted instances, predictions on val frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.images import decode_ids, decode_png
from instsynth_dagster.evaluation.report.sections import Example, ValFrame
from instsynth_dagster.graph import TrainingRun, run_dimensions
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.crops import mask_in_crop

_VAL_FRAMES = 4


def synthesis_examples(
    store: Store, image_of: Callable[[str], np.ndarray], generators: Sequence[str], settings: Settings
) -> list[Example]:
    """One instance per generator and class: the first of the first train city that has any."""
    examples = []
    for generator in generators:
        for name in settings.classes:
            for city in settings.dataset.train_cities:
                key = f"{city}|{name}"
                if store.require(f"{generator}/is_cityscapes", key).rows:
                    examples.append(_example(store, image_of, generator, key))
                    break
    return examples


def _example(store: Store, image_of: Callable[[str], np.ndarray], generator: str, key: str) -> Example:
    window = next(store.iterate(f"{generator}/is_cityscapes", key))
    crop = next(row for row in store.iterate(f"{generator}/inpainted_crops", key) if _same(row, window))
    selected = next(
        row for row in store.iterate("selected_instances", key) if row["instance_id"] == window["instance_id"]
    )
    mask, box = mask_in_crop(selected)
    return Example(
        instance_id=window["instance_id"],
        class_name=window["class_name"],
        generator=generator,
        prompt=window["prompt"],
        frame=image_of(window["source_frame"]),
        crop_box=box,
        crop=decode_png(selected["crop_png"]),
        mask=mask,
        repainted=decode_png(crop["image_png"]),
        window=decode_png(window["image_png"]),
        window_ids=decode_ids(window["ids_png"]),
    )


def _same(crop: dict, window: dict) -> bool:
    return (crop["instance_id"], crop["replica"]) == (window["instance_id"], window["replica"])


def prediction_frames(
    store: Store, image_and_ids: Callable[[str], tuple[np.ndarray, np.ndarray]], settings: Settings
) -> list[ValFrame]:
    """The first val frames with the predictions of the first segmenter on them, by arm (first training seed)."""
    runs, segmenters = run_dimensions(settings)["run"], run_dimensions(settings)["segmenter"]
    first_seed = [run for run in runs if TrainingRun.parse(run).seed == settings.training_seeds[0]]
    tables: dict[str, pd.DataFrame] = {
        TrainingRun.parse(run).data.name: store.read("segmentation_scores", f"{run}|{segmenters[0]}")
        for run in first_seed
    }
    frame_ids = store.read_many("frames", settings.dataset.val_cities, ["frame_id"])["frame_id"][:_VAL_FRAMES]
    return [
        ValFrame(
            frame_id,
            *image_and_ids(frame_id),
            {arm: table[table["frame_id"] == frame_id] for arm, table in tables.items()},
        )
        for frame_id in frame_ids
    ]
