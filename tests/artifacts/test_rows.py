"""Rows that are read late: from what stood there when they were listed, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import ArtifactReplaced, DamagedArtifact, is_transient

CROPS = ("crops", "aachen|car")


def make(store: Store, values: list[int], fingerprint: str) -> None:
    with store.write(*CROPS, fingerprint) as out:
        for value in values:
            out.add({"value": value, "png": bytes([value] * 20)})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path, rows_per_part=2)
    make(store, [1, 2, 3, 4, 5], "a" * 64)
    return store


def test_a_remade_partition_stops_late_readers_with_an_error_that_is_tried_again(store: Store):
    light, parts, rows = store.read_lazily(*CROPS), store.parts(*CROPS), store.iterate(*CROPS)
    assert bytes(light["png"][0]) == parts[0]["png"] == next(rows)["png"] == bytes([1] * 20)
    make(store, [6, 7, 8, 9, 10], "b" * 64)
    for read in (
        lambda: bytes(light["png"][0]),
        lambda: bytes(light["png"][4]),
        lambda: parts[0],
        lambda: parts[3],
        lambda: bytes(parts.stored_bytes(1, "png")),
        lambda: list(rows),
    ):
        with pytest.raises(ArtifactReplaced, match="made again") as caught:
            read()
        assert is_transient(caught.value)
    assert bytes(store.read_lazily(*CROPS)["png"][0]) == bytes([6] * 20)


def test_a_partition_that_is_remade_while_it_is_read_is_read_anew(store: Store, monkeypatch):
    fetch, remade = store.storage.fetch, []

    def slow_fetch(folder, file):
        if not remade:
            remade.append(True)
            make(Store(store.storage.root, rows_per_part=2), [6, 7, 8], "b" * 64)
        return fetch(folder, file)

    monkeypatch.setattr(store.storage, "fetch", slow_fetch)
    assert store.read(*CROPS)["value"].tolist() == [6, 7, 8]


def test_a_part_made_again_after_damage_is_not_read_through_the_old_handle(store: Store):
    light = store.read_lazily(*CROPS)
    assert bytes(light["png"][0]) == bytes([1] * 20)
    part = store.directory(*CROPS) / store.require(*CROPS).parts[0].path
    good = part.read_bytes()
    part.write_bytes(b"PAR1" + bytes(30))
    with pytest.raises(DamagedArtifact, match="damaged since its rows were listed"):
        bytes(light["png"][0])
    with pytest.raises(DamagedArtifact, match="its digest differs from the manifest"):
        store.read(*CROPS)
    part.write_bytes(good)
    assert bytes(light["png"][0]) == bytes([1] * 20)
