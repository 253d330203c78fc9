"""Phase 1: the instances of a city that are repainted (InstSynth section III-A, Eq. 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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
    single = instances[~instances["is_group"].astype(bool)] if len(instances) else instances
    single = single.sort_values(["area", "instance_id"], ascending=[False, True], kind="stable")
    chosen = _paper(single, settings) if settings.policy == "paper" else _balanced(single, settings, classes)
    chosen = chosen[chosen["class_name"].isin(list(classes))]
    chosen = chosen.sort_values(["frame_id", "area", "instance_id"], ascending=[True, False, True])
    return chosen.assign(rank=chosen.groupby("frame_id").cumcount()).reset_index(drop=True)


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


def _paper(single: pd.DataFrame, settings: SelectionSettings) -> pd.DataFrame:
    """Eq. 1: the K largest of each frame, over all instance classes."""
    return single.groupby("frame_id", sort=False).head(settings.k)


def _balanced(single: pd.DataFrame, settings: SelectionSettings, classes: Sequence[str]) -> pd.DataFrame:
    """Rarest class first, so that frequent classes get only the places that rare ones leave."""
    eligible = single[single["class_name"].isin(list(classes)) & (single["area"] >= settings.min_area)]
    sizes = eligible["class_name"].value_counts()
    taken: Counter[str] = Counter()
    picks: list[int] = []
    for name in sorted(sizes.index, key=lambda name: (sizes[name], name)):
        of_class = 0
        for index, frame_id in eligible.loc[eligible["class_name"] == name, "frame_id"].items():
            if of_class == settings.quota:
                break
            if taken[frame_id] < settings.k:
                taken[frame_id] += 1
                of_class += 1
                picks.append(index)
    return eligible.loc[picks]
