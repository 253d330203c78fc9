"""Damaged manifests and parts of the artifact store."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.errors import ArtifactError, UserError
from instsynth_dagster.synthesis.export import write_export
from tests.fuzz.oracle import nothing_stored, outcome

ASSET, PARTITION = "crops", "aachen|car"
ROWS = [{"name": f"row {number}", "value": number, "blob": bytes([number]) * 9} for number in range(7)]
SECRET = "outside"
ODD: tuple[Any, ...] = (None, True, -1, 1.5, 10**30, "", "x", "../../../outside", "/etc/hostname", [], [[]], {}, ["a"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    (root / SECRET).write_text("not an artifact")
    with Store(root / "artifacts", rows_per_part=3).write(ASSET, PARTITION, "f" * 64) as out:
        for row in ROWS:
            out.add(row)
        (out.folder("checkpoint") / "weights").write_bytes(b"w" * 50)
    return root


def manifest_of(root: Path) -> Path:
    (path,) = root.rglob("manifest.json")
    return path


def changed(root: Path, change: Callable[[Any], Any]) -> None:
    path = manifest_of(root)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def truncated_manifest(data, root: Path) -> None:
    path = manifest_of(root)
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, 900))])


def garbage_manifest(data, root: Path) -> None:
    manifest_of(root).write_bytes(data.draw(st.binary(max_size=40)))


def other_json(data, root: Path) -> None:
    manifest_of(root).write_text(data.draw(st.sampled_from(["null", "[]", "5", '"x"', "{}", "[" * 9000, "NaN"])))


def wrong_type(data, root: Path) -> None:
    key = data.draw(st.sampled_from(sorted(json.loads(manifest_of(root).read_text()))))
    value = data.draw(st.sampled_from([odd for odd in ODD if (key, odd) != ("parts", [])]))
    changed(root, lambda raw: raw | {key: value})


def missing_field(data, root: Path) -> None:
    key = data.draw(st.sampled_from(sorted(json.loads(manifest_of(root).read_text()))))
    changed(root, lambda raw: {name: value for name, value in raw.items() if name != key})


def unknown_field(data, root: Path) -> None:
    changed(root, lambda raw: raw | {data.draw(st.text(max_size=5)): 1})


def wrong_part(data, root: Path) -> None:
    key, value = data.draw(st.sampled_from(["path", "bytes", "sha256"])), data.draw(st.sampled_from(ODD))

    def change(raw):
        raw["parts"][0][key] = value
        return raw

    changed(root, change)


def path_outside(data, root: Path) -> None:
    path = data.draw(st.sampled_from(["../../../../outside", str(root / SECRET), "/etc/hostname", "a/../../x", "~"]))

    def change(raw):
        listed = data.draw(st.sampled_from([raw["parts"], raw["folders"]["checkpoint"]]))
        listed[0]["path"] = path
        return raw

    changed(root, change)


def odd_fingerprint(data, root: Path) -> None:
    changed(root, lambda raw: raw | {"fingerprint": data.draw(st.sampled_from(["../../../..", "", "/etc", 5, None]))})


def flipped_part(data, root: Path) -> None:
    path = data.draw(st.sampled_from(sorted(root.rglob("*.parquet"))))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)


def truncated_part(data, root: Path) -> None:
    path = data.draw(st.sampled_from(sorted(root.rglob("*.parquet"))))
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, 400))])


def missing_part(data, root: Path) -> None:
    data.draw(st.sampled_from(sorted(root.rglob("*.parquet")))).unlink()


def part_of_another(data, root: Path) -> None:
    path = data.draw(st.sampled_from(sorted(root.rglob("*.parquet"))))
    pq.write_table(pa.table({"other": [1, 2, 3]}), path)


def folder_for_a_part(data, root: Path) -> None:
    path = data.draw(st.sampled_from(sorted(root.rglob("*.parquet"))))
    path.unlink()
    path.mkdir()


def folder_for_the_manifest(data, root: Path) -> None:
    path = manifest_of(root)
    path.unlink()
    path.mkdir()


def fewer_parts(data, root: Path) -> None:
    left = data.draw(st.integers(0, 2))
    changed(root, lambda raw: raw | {"parts": raw["parts"][:left]})


def damaged_folder(data, root: Path) -> None:
    (path,) = root.rglob("weights")
    way = data.draw(st.sampled_from(["gone", "shorter", "other"]))
    if way == "gone":
        path.unlink()
    else:
        path.write_bytes(b"w" * 49 if way == "shorter" else b"v" * 50)


KINDS = (
    truncated_manifest,
    garbage_manifest,
    other_json,
    wrong_type,
    missing_field,
    unknown_field,
    wrong_part,
    path_outside,
    odd_fingerprint,
    flipped_part,
    truncated_part,
    missing_part,
    part_of_another,
    folder_for_a_part,
    damaged_folder,
    folder_for_the_manifest,
    fewer_parts,
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    KINDS,
)
def test_a_damaged_partition_is_read_right_or_named(whole, damage):
    @settings(max_examples=8)
    @given(st.data())
    def run(data):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "copy")
            shutil.copytree(whole, root)
            damage(data, root)
            store = Store(root / "artifacts")
            names = ("crops", "aachen")
            with nothing_stored(root):
                outcome("stores", lambda: store.manifest(ASSET, PARTITION), *names)
                rows = outcome("stores", lambda: store.read(ASSET, PARTITION), *names)
                one_by_one = outcome("stores", lambda: list(store.iterate(ASSET, PARTITION)), *names)
                checkpoint = outcome("stores", lambda: store.folder(ASSET, PARTITION, "checkpoint"), *names)
            assert isinstance(rows, UserError) or rows.to_dict("records") == ROWS
            assert isinstance(one_by_one, UserError) or one_by_one == ROWS
            if not isinstance(checkpoint, UserError):
                assert Path(checkpoint).resolve().is_relative_to((root / "artifacts").resolve())

    run()


@settings(max_examples=40)
@given(st.text(max_size=12) | st.sampled_from(["..", "a|..", "/x", "a/b", "a\\b", "a|b|c", "\0", "a\0b", "."]))
def test_a_name_is_never_a_path(whole, name):
    store = Store(whole / "artifacts")
    with nothing_stored(whole):
        for asset, partition in ((ASSET, name), (name, PARTITION)):
            outcome("stores", lambda a=asset, p=partition: store.require(a, p), "artifact", "exist", "crops")


def test_a_name_may_be_too_long(whole):
    outcome("stores", lambda: Store(whole / "artifacts").require(ASSET, "x" * 300), "crops")


@settings(max_examples=40)
@given(
    st.sampled_from(
        ["../x_000000_000000", "a/b_000000_000000", "/abs_000000_000000", "a_000000_000000\n", "", "..", "\0"]
    )
    | st.text(max_size=20)
)
def test_an_export_writes_nowhere_else(name):
    """A frame id from data is no way out of the export's folder, and nothing is left of an export that failed."""
    with tempfile.TemporaryDirectory() as folder:
        picture = np.zeros((4, 4, 3), np.uint8)
        import cv2

        png = cv2.imencode(".png", picture)[1].tobytes()
        row = {"frame_id": name, "image_png": png, "ids_png": png}
        with nothing_stored(Path(folder)):
            found = outcome("stores", lambda: write_export([row], Path(folder, "out")), "frame id")
        assert isinstance(found, ArtifactError)


@settings(max_examples=40)
@given(st.binary(max_size=60) | st.sampled_from([b"", b"\x89PNG\r\n\x1a\n"]))
def test_bytes_that_are_no_picture(content):
    assert isinstance(outcome("stores", lambda: decode_png(content), "image"), ArtifactError)
