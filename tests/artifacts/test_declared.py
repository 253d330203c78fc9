"""A store as the body of an asset sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import Reader, UndeclaredRead

READER = Reader("table", "all", "assets/table.py")
READS: list[Callable[[DeclaredStore, str], object]] = [
    lambda store, key: store.manifest("crops", key),
    lambda store, key: store.require("crops", key),
    lambda store, key: store.read("crops", key),
    lambda store, key: store.read("crops", key, ["value"]),
    lambda store, key: store.read_lazily("crops", key),
    lambda store, key: store.read_many("crops", [key]),
    lambda store, key: list(store.iterate("crops", key)),
    lambda store, key: store.columns("crops", key),
    lambda store, key: store.parts("crops", key)[0],
    lambda store, key: store.folder("crops", key, "pictures"),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for key in ("ulm", "bonn"):
        with store.write("crops", key, "a" * 64) as out:
            out.add({"value": key})
            (out.folder("pictures") / "x.txt").write_text(key)
    return store


@pytest.mark.parametrize("read", READS)
def test_every_way_of_reading_is_bound(store, read):
    seen = DeclaredStore(store, READER, [("crops", "ulm")])
    read(seen, "ulm")
    with pytest.raises(UndeclaredRead) as caught:
        read(seen, "bonn")
    assert str(caught.value) == (
        "table[all] reads crops[bonn], which it does not declare; add it to its `reads` in assets/table.py"
    )


@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.snapshot(),
        lambda store: store.write("crops", "ulm", "b" * 64),
        lambda store: store.lock("crops", "ulm", print),
        lambda store: store.directory("crops", "ulm"),
        lambda store: store.verify("crops", "bonn"),
    ],
)
def test_nothing_is_written_past_the_partition(store, act):
    with pytest.raises(UndeclaredRead):
        act(DeclaredStore(store, READER, [("crops", "ulm")]))


def test_partitions_are_listed_in_the_order_of_the_declaration(store):
    seen = DeclaredStore(store, READER, [("crops", "ulm"), ("frames", "x"), ("crops", "bonn"), ("crops", "ulm")])
    assert seen.declared("crops") == ["ulm", "bonn"]
    assert seen.declared("others") == []


def test_another_process_opens_the_same(store):
    seen = DeclaredStore.at(DeclaredStore(store, READER, [("crops", "ulm")]).address())
    pd.testing.assert_frame_equal(seen.read("crops", "ulm"), store.read("crops", "ulm"))
    with pytest.raises(UndeclaredRead, match=r"table\[all\] reads crops\[bonn\]"):
        seen.read("crops", "bonn")
