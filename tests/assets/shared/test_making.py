"""Inputs that change while a partition is made from them."""

from __future__ import annotations

import pandas as pd
import pytest

from assets.shared.declaration import Artifact, Shared, artifact
from assets.shared.made import Made
from assets.shared.making import Making
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import ArtifactReplaced
from instsynth_dagster.graph.staleness import Asset, expected, why_stale
from tests.assets.test_graph import settings_for

ABOVE = Asset("above", "1", {}, lambda _: None, lambda _: [])


def write(store: Store, text: str) -> None:
    now = expected(ABOVE, "all", store.manifest)
    with store.write("above", "all", now.fingerprint, now.components) as out:
        out.add_table(pd.DataFrame({"text": [text]}))


def making(store: Store, body) -> Making:
    declared = artifact("below", code_version="1", group="data", kinds=set(), reads=lambda at: [("above", "all")])(body)
    settings = settings_for(store.directory("x").parent)
    return Making(store, Artifact.of(declared, settings, "", Shared(settings)), {}, False, lambda _: None)


def copies(store: Store):
    def body(out, partition: str) -> Made:
        out.add({"text": store.read("above")["text"][0]})
        return Made()

    return body


def no_pointers(_: str) -> dict[str, str]:
    return {}


@pytest.mark.parametrize("rows_per_part", [1, 64])
def test_an_input_that_is_made_again_and_reverted_is_noticed(tmp_path, rows_per_part):
    store = Store(tmp_path, rows_per_part=rows_per_part)
    write(store, "first")
    digest = store.require("above").digest

    def reads_what_is_reverted(out, partition: str) -> Made:
        write(store, "second")
        read = store.read("above")["text"][0]
        write(store, "first")
        assert store.require("above").digest == digest
        out.add({"text": read})
        return Made()

    with pytest.raises(ArtifactReplaced, match=r"above\[all\] was made again"):
        making(store, reads_what_is_reverted).partition("all", no_pointers)
    assert store.manifest("below") is None
    assert not list(store.directory("below").glob("*.parquet"))
    stored = making(store, copies(store)).partition("all", no_pointers)
    assert stored.current_provenance
    assert store.read("below")["text"].tolist() == ["first"]
    assert why_stale(making(store, copies(store)).asset, "all", store.manifest) is None


def test_a_failure_beside_a_changed_input_leaves_nothing_to_go_on_from(tmp_path):
    store = Store(tmp_path)
    write(store, "first")

    def fails(out, partition: str) -> Made:
        out.add({"text": "of the second"})
        write(store, "second")
        write(store, "first")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        making(store, fails).partition("all", no_pointers)
    assert making(store, copies(store)).partition("all", no_pointers).manifest.rows == 1


def test_what_is_up_to_date_is_not_made_again(tmp_path):
    store = Store(tmp_path)
    write(store, "first")
    first = making(store, copies(store)).partition("all", no_pointers)
    again = making(store, pytest.fail).partition("all", no_pointers)
    assert first.current_provenance
    assert not again.current_provenance
    assert again.manifest == first.manifest
    assert "up to date; made at" in again.line()
