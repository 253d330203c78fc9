"""The stale set: a pure function of fingerprints, with early cut-off."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.graph.staleness import Asset, contiguous_ranges, expected, plan, why_stale

CITIES, CLASSES = ("aachen", "bochum", "ulm"), ("bus", "car")


class Chain:
    """frames(city) -> crops(city x class) -> table, whose content is whatever `content` says."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root)
        self.settings = {"bus": 1, "car": 1}
        self.content = {("frames", city): city for city in CITIES}
        keys = [f"{city}|{name}" for city in CITIES for name in CLASSES]
        self.assets = [
            Asset("frames", "1", {"city": CITIES}, lambda _: None, lambda _: [], lambda c: self.content["frames", c]),
            Asset(
                "crops",
                "1",
                {"city": CITIES, "class": CLASSES},
                lambda key: self.settings[key.split("|")[1]],
                lambda key: [("frames", key.split("|")[0])],
            ),
            Asset("table", "1", {}, lambda _: None, lambda _: [("crops", key) for key in keys]),
        ]
        self.made: list[tuple[str, str]] = []

    def refresh(self) -> list[tuple[str, str]]:
        self.made = []
        for asset in self.assets:
            for partition in asset.partitions:
                if not why_stale(asset, partition, self.store.manifest):
                    continue
                now = expected(asset, partition, self.store.manifest)
                assert now
                with self.store.write(asset.key, partition, now.fingerprint, now.components) as out:
                    out.add_table(pd.DataFrame({"value": [self.content.get((asset.key, partition), now.fingerprint)]}))
                self.made.append((asset.key, partition))
        return self.made


def test_everything_once_then_nothing(tmp_path):
    chain = Chain(tmp_path)
    assert len(plan(chain.assets, chain.store.manifest)) == 3 + 6 + 1
    assert len(chain.refresh()) == 3 + 6 + 1
    assert chain.refresh() == []
    assert plan(chain.assets, chain.store.manifest) == []


def test_one_class_edited_makes_only_that_class(tmp_path):
    chain = Chain(tmp_path)
    chain.refresh()
    chain.settings["bus"] = 2
    planned = plan(chain.assets, chain.store.manifest)
    assert {item.reason for item in planned if item.certain} == {"settings changed"}
    assert chain.refresh() == [("crops", f"{city}|bus") for city in CITIES] + [("table", "all")]


def test_one_city_changed_makes_only_that_city(tmp_path):
    chain = Chain(tmp_path)
    chain.refresh()
    chain.content["frames", "ulm"] = "ulm with another frame"
    planned = plan(chain.assets, chain.store.manifest)
    assert [item.reason for item in planned if item.certain] == ["files it reads changed"]
    assert chain.refresh() == [("frames", "ulm"), ("crops", "ulm|bus"), ("crops", "ulm|car"), ("table", "all")]


def test_equal_content_stops_the_wave(tmp_path):
    chain = Chain(tmp_path)
    chain.refresh()
    (chain.store.directory("frames", "ulm") / "manifest.json").unlink()
    planned = plan(chain.assets, chain.store.manifest)
    assert next((item.asset, item.partition) for item in planned if item.certain) == ("frames", "ulm")
    assert chain.refresh() == [("frames", "ulm")]


@given(st.sets(st.tuples(st.sampled_from("abcd"), st.sampled_from("vwxyz"))))
def test_stretches_cover_exactly_and_are_as_few_as_can_be(cells):
    asset = Asset("x", "1", {"city": list("abcd"), "class": list("vwxyz")}, lambda _: None, lambda _: [])
    wanted = {f"{a}|{b}" for a, b in cells}
    order = asset.partitions
    found = [(order.index(first), order.index(last)) for first, last in contiguous_ranges(asset, wanted)]
    assert [order[i] for first, last in found for i in range(first, last + 1)] == [k for k in order if k in wanted]
    assert all(left[1] + 1 < right[0] for left, right in pairwise(found))


def test_a_stretch_of_an_asset_without_partitions():
    assert list(contiguous_ranges(Asset("x", "1", {}, lambda _: None, lambda _: []), ["all"])) == [("all", "all")]
