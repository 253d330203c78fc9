"""Phase 1: policies, K, determinism."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.settings import SelectionSettings
from instsynth_dagster.synthesis.selection import select_instances

names = st.sampled_from([*CITYSCAPES.classes, "caravan"])
rows = st.lists(st.tuples(st.integers(0, 3), names, st.integers(1, 900), st.booleans()), max_size=40)


def table(entries: list[tuple[int, str, int, bool]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "instance_id": f"f{frame}:{i}",
                "frame_id": f"f{frame}",
                "class_name": name,
                "area": area,
                "is_group": group,
            }
            for i, (frame, name, area, group) in enumerate(entries)
        ],
        columns=["instance_id", "frame_id", "class_name", "area", "is_group"],
    )


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["paper", "balanced"])
@given(entries=rows, k=st.integers(1, 4), quota=st.integers(1, 6), order=st.randoms(use_true_random=False))
def test_what_every_policy_keeps(policy, entries, k, quota, order):
    settings = SelectionSettings(policy=policy, k=k, min_area=100, quota=quota)
    instances = table(entries)
    chosen = select_instances(instances, settings, CITYSCAPES.classes)
    assert not chosen["is_group"].any()
    assert set(chosen["class_name"]) <= set(CITYSCAPES.classes)
    assert (chosen.groupby("frame_id").size() <= k).all()
    shuffled = order.sample(range(len(entries)), len(entries))
    again = select_instances(instances.iloc[shuffled], settings, CITYSCAPES.classes)
    assert again["instance_id"].tolist() == chosen["instance_id"].tolist()
    if policy == "balanced":
        assert (chosen["area"] >= 100).all()
        assert (chosen.groupby("class_name").size() <= quota).all()


def test_paper_is_the_k_largest_of_all_classes():
    entries = [(0, "caravan", 900, False), (0, "car", 500, False), (0, "person", 400, False), (0, "bus", 300, False)]
    chosen = select_instances(table(entries), SelectionSettings(policy="paper", k=3), CITYSCAPES.classes)
    assert chosen["class_name"].tolist() == ["car", "person"]


def test_balanced_does_not_drown_rare_classes():
    entries = [(f, "car", 800 + f, False) for f in range(4) for _ in range(3)] + [(2, "train", 150, False)]
    settings = SelectionSettings(policy="balanced", k=1, min_area=100)
    chosen = select_instances(table(entries), settings, CITYSCAPES.classes)
    assert chosen.loc[chosen["frame_id"] == "f2", "class_name"].tolist() == ["train"]


def test_an_empty_city_selects_nothing():
    empty = instance_index(np.zeros((8, 8), np.int32), labels=CITYSCAPES).assign(frame_id="", instance_id="")
    assert select_instances(empty, SelectionSettings(), CITYSCAPES.classes).empty
