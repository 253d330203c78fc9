"""Repainted instances of a city and class, made by a generator or a control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from assets.shared.declaration import At, all_but
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.graph import (
    COLOR_JITTER,
    ORACLE,
    PASTED_INSERT,
    WITHOUT_GENERATOR,
    generator_of,
    instances_asset,
    window_replicas,
)
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import DemoCitySettings, GateSettings, Settings
from instsynth_dagster.synthesis.color_jitter import jitter_row
from instsynth_dagster.synthesis.crops import cut_box
from instsynth_dagster.synthesis.gates import SCORE_ASSETS, choose_crops, stored_scores
from instsynth_dagster.synthesis.synthetic_windows import Paint


def is_judged(settings: Settings, member: str) -> bool:
    """Whether gates apply to the crops of a generator or control."""
    return bool(settings.judge) and member not in WITHOUT_GENERATOR


def scored_by(settings: Settings) -> tuple[str, ...]:
    """The assets of a generator that hold scores of its crops."""
    if not settings.judge:
        return ()
    return SCORE_ASSETS if settings.judge.masks else SCORE_ASSETS[:1]


def read_settings(at: At) -> list[str]:
    """The settings on which the pasted pixels depend."""
    verdicts = all_but({"spares"}, GateSettings, "gates") if is_judged(at.settings, at.member) else []
    drawn = ["dataset.demo_city"] if at.member == ORACLE else []
    return ["integration", "seed", "dataset.root", *verdicts, *drawn]


def reads(at: At, key: str) -> list[PartitionRef]:
    """The instances of a city and class that are repainted, and a generator's crops of them with their scores."""
    crops = [] if at.member in WITHOUT_GENERATOR else [(f"{at.member}/inpainted_crops", key)]
    quality = (
        [(f"{at.member}/{kind}", key) for kind in scored_by(at.settings)] if is_judged(at.settings, at.member) else []
    )
    return [(instances_asset(at.member), key), *crops, *quality]


def replicas(at: At) -> int:
    """Samples of each instance: the generator's replicas, or for a control the greatest number of any generator."""
    if at.member in WITHOUT_GENERATOR:
        return window_replicas(at.settings)
    return at.settings.generators[generator_of(at.member)].replicas


def chosen_crops(
    store: DeclaredStore, member: str, key: str, settings: Settings, count: int
) -> tuple[pd.DataFrame | None, pd.DataFrame | None, list[dict[str, Any]] | None]:
    """A generator's crops of a city and class, their scores where there is a judge, and the crops to be pasted; all
    None for a control.
    """
    if member in WITHOUT_GENERATOR:
        return None, None, None
    crops = store.read_lazily(f"{member}/inpainted_crops", key)
    kinds = [kind for kind in SCORE_ASSETS if store.declared(f"{member}/{kind}")]
    if not kinds:
        return crops, None, choose_crops(crops, None, GateSettings(), count)
    quality = stored_scores(store, member, key, kinds)
    return crops, quality, choose_crops(crops, quality, settings.gates, count)


def control_paint(member: str, settings: Settings) -> Paint | None:
    """The function with which a control paints into an instance's mask; None where it leaves the pixels unchanged."""
    if member == COLOR_JITTER:
        return lambda row, slot: jitter_row(row, slot, settings.seed)
    if member == ORACLE:
        assert settings.dataset.demo_city is not None
        return _oracle(settings.dataset.demo_city, settings.seed)
    if member == PASTED_INSERT:
        return lambda row, _: decode_png(row["pasted_png"]) if row["reason"] == "" else None
    return None


def _oracle(demo: DemoCitySettings, seed: int) -> Callable[[Mapping[str, Any], int], np.ndarray]:
    """Crops of the same frames in other colours: the output of a perfect generator."""
    from instsynth_dagster.demo.city import repainted_frame

    @lru_cache(maxsize=4)
    def redrawn(frame_id: str, slot: int) -> np.ndarray:
        return repainted_frame(frame_id, demo, "train", content_seed("oracle", slot, seed))

    return lambda row, slot: cut_box(redrawn(row["frame_id"], slot), row)
