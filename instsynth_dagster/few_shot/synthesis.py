"""Synthetic shots: instances of the shots, and of nothing else, repainted by a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from instsynth_dagster.data.images import decode_png
from instsynth_dagster.settings import GeneratorSettings, IntegrationSettings
from instsynth_dagster.synthesis.crops import mask_in_crop, mask_in_frame
from instsynth_dagster.synthesis.generators.base import Generator, repaint
from instsynth_dagster.synthesis.integration import paste


@dataclass(frozen=True)
class Repainted:
    """A frame with one repainted instance: composite uint8 (H, W, 3), and the instance's mask bool (H, W)."""

    instance_id: str
    image: np.ndarray
    mask: np.ndarray


def repainted_shots(
    rows: pd.DataFrame,
    bank: pd.DataFrame,
    image_of: Callable[[str], np.ndarray],
    generator: Generator,
    name: str,
    settings: GeneratorSettings,
    integration: IntegrationSettings,
    *,
    seed: int,
    replicas: int,
) -> Iterator[Repainted]:
    """Composites of shots, each `replicas` times, without those that failed.

    Args:
        rows: rows of `selected_instances` of one class, the shots and no others, so that no other instance leaks in.
        bank: the class's prompts.
    """
    if rows.empty:
        return
    by_instance = rows.set_index("instance_id")
    for crop in repaint(generator, name, rows, bank, settings, seed, replicas=replicas, skip=0):
        if crop["failure"]:
            continue
        row = by_instance.loc[crop["instance_id"]]
        mask, box = mask_in_crop(row)
        image = image_of(row["frame_id"])
        composite = paste(image, decode_png(crop["image_png"]), mask, box, integration)
        yield Repainted(crop["instance_id"], composite, mask_in_frame(row, image.shape[:2]))
