"""Phase 1: the instances of a city that are repainted (InstSynth section III-A, Eq. 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from instsynth_dagster.settings import SelectionSettings


def select_instances(instances: pd.DataFrame, settings: SelectionSettings, classes: Sequence[str]) -> pd.DataFrame:
    """At most `settings.k` instances of each frame.

    Args:
        instances: one city's rows of the instance index, with instance_id and frame_id; any order.
        classes: evaluated classes; others are never returned.

    Returns:
        The chosen rows with a column `rank` (0 = largest of its frame's chosen), by frame and rank.
    """
    columns = (instances[name].tolist() for name in ("frame_id", "class_name", "area", "instance_id", "is_group"))
    single = [
        _Candidate(position, frame_id, class_name, (-area, instance_id))
        for position, (frame_id, class_name, area, instance_id, is_group) in enumerate(zip(*columns, strict=True))
        if not is_group
    ]
    single.sort(key=lambda one: one.order)
    chosen = _paper(single, settings) if settings.policy == "paper" else _balanced(single, settings, classes)
    chosen = [one for one in chosen if one.class_name in classes]
    chosen.sort(key=lambda one: (one.frame_id, one.order))
    seen: Counter[str] = Counter()
    ranks = []
    for one in chosen:
        ranks.append(seen[one.frame_id])
        seen[one.frame_id] += 1
    table = instances.iloc[[one.position for one in chosen]].reset_index(drop=True)
    return table.assign(rank=np.array(ranks, np.int64))


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An instance: its row in the index, its frame and class, and a sort key that puts the largest first."""

    position: int
    frame_id: str
    class_name: str
    order: tuple[int, str]


def every_instance(instances: pd.DataFrame, class_name: str, min_area: int) -> pd.DataFrame:
    """All single instances of a class with at least `min_area` pixels, by frame and area; columns as for
    `select_instances`.
    """
    if instances.empty:
        return instances.assign(rank=[])
    wanted = ~instances["is_group"].astype(bool) & (instances["class_name"] == class_name)
    chosen = instances[wanted & (instances["area"] >= min_area)]
    chosen = chosen.sort_values(["frame_id", "area", "instance_id"], ascending=[True, False, True])
    return chosen.assign(rank=chosen.groupby("frame_id").cumcount()).reset_index(drop=True)


def _paper(single: Sequence[_Candidate], settings: SelectionSettings) -> list[_Candidate]:
    """Eq. 1: the K largest of each frame, over all instance classes."""
    taken: Counter[str] = Counter()
    picks = []
    for one in single:
        if taken[one.frame_id] < settings.k:
            taken[one.frame_id] += 1
            picks.append(one)
    return picks


def _balanced(single: Sequence[_Candidate], settings: SelectionSettings, classes: Sequence[str]) -> list[_Candidate]:
    """Rarest class first, so that frequent classes get only the places that rare ones leave."""
    of_class: dict[str, list[_Candidate]] = {}
    for one in single:
        if one.class_name in classes and -one.order[0] >= settings.min_area:
            of_class.setdefault(one.class_name, []).append(one)
    taken: Counter[str] = Counter()
    picks = []
    for _, found in sorted(of_class.items(), key=lambda item: (len(item[1]), item[0])):
        room = settings.quota
        for one in found:
            if room and taken[one.frame_id] < settings.k:
                taken[one.frame_id] += 1
                room -= 1
                picks.append(one)
    return picks
