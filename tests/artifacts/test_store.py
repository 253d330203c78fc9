"""The store: atomic, resumable, content-addressed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.artifacts.manifest import MANIFEST
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import ArtifactError

FINGERPRINT = "f" * 64
rows_strategy = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.text(max_size=8),
            "value": st.integers(-9, 9),
            "blob": st.binary(max_size=8),
            "names": st.lists(st.text(max_size=3), max_size=2),
            "boxes": st.lists(st.fixed_dictionaries({"x1": st.integers(0, 9), "y1": st.floats(0, 1)}), max_size=2),
        }
    ),
    max_size=12,
)


def fill(store: Store, rows: list[dict], fingerprint: str = FINGERPRINT, stop_at: int | None = None) -> None:
    with store.write("crops", "aachen|car", fingerprint) as out:
        for index, row in enumerate(rows[out.resumed_rows :], out.resumed_rows):
            if index == stop_at:
                raise KeyboardInterrupt
            out.add(row)


@pytest.mark.slow
@given(rows=rows_strategy, stop=st.integers(0, 11))
def test_a_killed_write_resumes_to_the_same_digest(tmp_path_factory, rows, stop):
    whole, killed = (Store(tmp_path_factory.mktemp("store"), rows_per_part=3) for _ in range(2))
    fill(whole, rows)
    if stop < len(rows):
        abandoned = killed.write("crops", "aachen|car", FINGERPRINT).__enter__()  # as SIGKILL leaves it
        for row in rows[:stop]:
            abandoned.add(row)
        assert killed.manifest("crops", "aachen|car") is None
        with killed.write("crops", "aachen|car", FINGERPRINT) as out:
            assert out.resumed_rows == stop - stop % 3
            for row in rows[out.resumed_rows :]:
                out.add(row)
    else:
        fill(killed, rows)
    assert killed.require("crops", "aachen|car").digest == whole.require("crops", "aachen|car").digest
    assert list(killed.iterate("crops", "aachen|car")) == rows


@pytest.mark.slow
@given(rows=rows_strategy, stop=st.integers(0, 11))
def test_an_interrupted_write_loses_no_row(tmp_path_factory, rows, stop):
    whole, stopped = (Store(tmp_path_factory.mktemp("store"), rows_per_part=3) for _ in range(2))
    fill(whole, rows)
    if stop < len(rows):
        with pytest.raises(KeyboardInterrupt):
            fill(stopped, rows, stop_at=stop)
        with stopped.write("crops", "aachen|car", FINGERPRINT) as out:
            assert out.resumed_rows == stop
            for row in rows[stop:]:
                out.add(row)
        assert stopped.require("crops", "aachen|car").digest == whole.require("crops", "aachen|car").digest
        assert list(stopped.iterate("crops", "aachen|car")) == rows


@pytest.mark.slow
@given(rows=rows_strategy, stop=st.integers(0, 11))
def test_a_resumed_write_knows_all_its_rows(tmp_path_factory, rows, stop):
    store = Store(tmp_path_factory.mktemp("store"), rows_per_part=3)
    with contextlib.suppress(KeyboardInterrupt):
        fill(store, rows, stop_at=stop)
    with store.write("crops", "aachen|car", "a" * 64 if stop >= len(rows) else FINGERPRINT) as out:
        for number, row in enumerate(rows[out.resumed_rows :], out.resumed_rows + 1):
            out.add(row)
            assert list(out.stored_rows()) == rows[:number]
        assert list(out.stored_rows(["value"])) == [{"value": row["value"]} for row in rows]


def test_the_digest_names_content_not_time(tmp_path: Path):
    store = Store(tmp_path)
    digests = set()
    for seconds, fingerprint in ((0.1, "a" * 64), (0.9, "b" * 64)):
        fill(store, [{"name": "x", "device_seconds": seconds}], fingerprint)
        digests.add(store.require("crops", "aachen|car").digest)
    assert len(digests) == 1
    fill(store, [{"name": "y", "device_seconds": 0.1}], "c" * 64)
    assert store.require("crops", "aachen|car").digest not in digests


def test_a_failing_remake_leaves_what_stood_before(tmp_path: Path):
    store = Store(tmp_path, rows_per_part=1)
    fill(store, [{"v": 1}, {"v": 2}], "a" * 64)
    with pytest.raises(KeyboardInterrupt):
        fill(store, [{"v": 3}, {"v": 4}], "b" * 64, stop_at=1)
    assert store.read("crops", "aachen|car")["v"].tolist() == [1, 2]
    fill(store, [{"v": 3}, {"v": 4}], "b" * 64)
    assert store.read("crops", "aachen|car")["v"].tolist() == [3, 4]
    names = sorted(path.name for path in store.directory("crops", "aachen|car").iterdir())
    assert [name.split(".")[0] for name in names] == ["b" * 12 + "-00000", "b" * 12 + "-00001", "manifest"]


def test_a_flipped_byte_is_found_and_named(tmp_path: Path):
    store = Store(tmp_path)
    fill(store, [{"v": 1}])
    part = next(store.directory("crops", "aachen|car").glob("*.parquet"))
    damaged = bytearray(part.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    part.write_bytes(damaged)
    with pytest.raises(ArtifactError, match=part.name):
        store.read("crops", "aachen|car")


def test_a_missing_part_means_not_there(tmp_path: Path):
    store = Store(tmp_path)
    fill(store, [{"v": 1}])
    next(store.directory("crops", "aachen|car").glob("*.parquet")).unlink()
    assert store.manifest("crops", "aachen|car") is None


def test_folders_are_part_of_the_content(tmp_path: Path):
    store = Store(tmp_path)
    digests = []
    for content, fingerprint in (("one", "a" * 64), ("one", "b" * 64), ("two", "c" * 64)):
        with store.write("model", "all", fingerprint) as out:
            (out.scratch() / "state").write_text("only for a resume")
            (out.folder("checkpoint") / "weights").write_text(content)
        digests.append(store.require("model").digest)
        assert (store.folder("model", "all", "checkpoint") / "weights").read_text() == content
    assert digests[0] == digests[1] != digests[2]
    assert not list(store.directory("model").glob("*.scratch"))


@pytest.mark.parametrize("partition", ["../x|car", "a//b", "..", "a|../../b"])
def test_names_never_leave_the_store(tmp_path: Path, partition: str):
    with pytest.raises(ArtifactError, match="not a usable artifact name"):
        Store(tmp_path).directory("crops", partition)


def test_a_damaged_manifest_is_named(tmp_path: Path):
    store = Store(tmp_path)
    fill(store, [{"v": 1}])
    path = store.directory("crops", "aachen|car") / MANIFEST
    path.write_text(json.dumps({"asset": "crops"}))
    with pytest.raises(ArtifactError, match=r"manifest\.json: damaged"):
        store.manifest("crops", "aachen|car")


def test_an_empty_partition_reads_as_no_rows(tmp_path: Path):
    store = Store(tmp_path)
    fill(store, [])
    assert store.read("crops", "aachen|car", ["name"]).empty
    pd.testing.assert_frame_equal(store.read_many("crops", ["aachen|car"], ["name"]), pd.DataFrame(columns=["name"]))


def test_light_rows_give_the_same_bytes_when_asked(tmp_path: Path):
    store = Store(tmp_path, rows_per_part=3)
    rows = [{"name": str(index), "png": bytes([index] * 5), "box": {"x1": index}} for index in range(7)]
    fill(store, rows)
    light = store.read_lazily("crops", "aachen|car")
    assert list(light.columns) == ["name", "png", "box"]
    assert light["name"].tolist() == [row["name"] for row in rows]
    assert [bytes(value) for value in light["png"]] == [row["png"] for row in rows]
    parts = store.parts("crops", "aachen|car")
    assert [parts[index] for index in range(7)] == rows
    assert bytes(parts.stored_bytes(4, "png")) == rows[4]["png"]
    with store.write("table", "all", FINGERPRINT) as out:
        out.add_table(pd.DataFrame(rows))
    assert [bytes(value) for value in store.read_lazily("table", "all")["png"]] == [row["png"] for row in rows]
