"""Damage that `Store.verify` finds where the bytes lie, on a disk, on an S3 server and in local copies."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from instsynth_dagster.artifacts.manifest import MANIFEST
from instsynth_dagster.artifacts.store import Store
from tests.artifacts.storage.s3_server import BUCKET, s3_bucket

FOLDER = "crops/aachen/car"
ROWS = [{"value": value} for value in range(7)]


@pytest.fixture(scope="module")
def server():
    with s3_bucket():
        yield


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.slow)])
def store(request, tmp_path: Path) -> Store:
    if request.param == "s3":
        request.getfixturevalue("server")
    root = tmp_path / "store" if request.param == "disk" else f"s3://{BUCKET}/{tmp_path.name}"
    made = Store(root, 3, tmp_path / "cache")
    make(made)
    return made


def make(store: Store) -> None:
    with store.write("crops", "aachen|car", "f" * 64) as out:
        for row in ROWS[out.resumed_rows :]:
            out.add(row)
        (out.folder("checkpoint") / "inner").mkdir(exist_ok=True)
        (out.folder("checkpoint") / "inner" / "weights").write_bytes(b"w" * 10)


def files(store: Store) -> list[str]:
    return [file.path for file in store.require("crops", "aachen|car").files()]


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def damage(store: Store, path: str) -> None:
    store.storage.write(f"{FOLDER}/{path}", flipped(store.storage.read(f"{FOLDER}/{path}")))


def assert_healed(store: Store) -> None:
    """The next refresh, which looks at a snapshot, makes the partition again."""
    assert store.snapshot()("crops", "aachen|car") is None
    make(store)
    assert store.verify("crops", "aachen|car") == []
    assert [row["value"] for row in store.iterate("crops", "aachen|car")] == list(range(7))


def test_what_is_whole_and_what_is_not_there_have_nothing_wrong(store: Store):
    assert store.verify("crops", "aachen|car") == []
    assert store.verify("crops", "aachen|bus") == []


def test_every_damaged_file_is_named_though_good_copies_are_here(store: Store):
    store.read("crops", "aachen|car")
    store.folder("crops", "aachen|car", "checkpoint")
    first, _, third, weights = files(store)
    for path in (first, third, weights):
        damage(store, path)
    found = store.verify("crops", "aachen|car")
    assert [line.split(": damaged, its digest")[0].split(f"{FOLDER}/")[1] for line in found] == [first, third, weights]
    assert all("refresh makes crops[aachen|car] again" in line for line in found)
    assert_healed(store)


@pytest.mark.parametrize("gone", [[0], [3], [1, 2]])
def test_missing_files_are_named(store: Store, gone: list[int]):
    paths = [files(store)[index] for index in gone]
    for path in paths:
        (store.directory("crops", "aachen|car") / path).unlink(missing_ok=True)
        head, _, tail = path.rpartition("/")
        store.storage.remove(f"{FOLDER}/{head}".rstrip("/"), [tail])
    (found,) = store.verify("crops", "aachen|car")
    assert all(f"{FOLDER}/{path}" in found for path in paths)
    assert found.endswith(": missing; refresh makes crops[aachen|car] again")
    assert_healed(store)


def test_a_damaged_manifest_is_named(store: Store):
    damage(store, MANIFEST)
    (found,) = store.verify("crops", "aachen|car")
    assert f"{FOLDER}/{MANIFEST}: damaged manifest" in found


def test_a_bit_that_flips_between_two_looks_is_found(tmp_path: Path):
    """Size and time of the file are as they were when the same process read it."""
    store = Store(tmp_path)
    make(store)
    store.read("crops", "aachen|car")
    path = tmp_path / FOLDER / files(store)[0]
    stat = path.stat()
    path.write_bytes(flipped(path.read_bytes()))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(store.verify("crops", "aachen|car")) == 1


def copies(cache: Path, content: bytes) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() and path.read_bytes() == content]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["part", "folder"])
def test_a_damaged_local_copy_is_named_and_fetched_again(server, tmp_path: Path, kind: str):
    root, cache = f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "cache"
    make(Store(root, 3, tmp_path / "elsewhere"))

    def read(store: Store) -> object:
        if kind == "part":
            return store.read("crops", "aachen|car")["value"].tolist()
        return (store.folder("crops", "aachen|car", "checkpoint") / "inner" / "weights").read_bytes()

    store = Store(root, 3, cache)
    good = read(store)
    content = store.storage.read(f"{FOLDER}/{files(store)[0 if kind == 'part' else 3]}")
    damaged = copies(cache, content)
    assert len(damaged) == (1 if kind == "part" else 2)
    for path in damaged:
        path.write_bytes(flipped(content))
    assert read(Store(root, 3, cache)) == read(store) == good
    for path in damaged:
        path.write_bytes(content[:-3])
    found = Store(root, 3, cache).verify("crops", "aachen|car")
    assert sorted(line.split(": damaged local copy")[0] for line in found) == sorted(map(str, damaged))
    assert store.verify("crops", "aachen|car") == []
    assert read(store) == good


def test_files_outside_the_store_are_compared_too(tmp_path: Path):
    store, outside = Store(tmp_path / "store"), tmp_path / "exports"

    def export() -> None:
        outside.mkdir(exist_ok=True)
        with store.write("export", "all", "f" * 64) as out:
            for name in ("one", "two"):
                (outside / name).write_text(name)
                out.add({"file": name, "sha256": hashlib.sha256(name.encode()).hexdigest()})
            out.declare_directory(outside)

    export()
    assert store.verify("export") == []
    (outside / "one").write_text("ona")
    assert [line.split(":")[0] for line in store.verify("export")] == [str(outside / "one")]
    assert [line.split(":")[0] for line in store.verify("export")] == [str(outside)]
    os.remove(outside / "one.damaged")
    (outside / "two").unlink()
    assert [line.split(":")[0] for line in store.verify("export")] == [str(outside)]
