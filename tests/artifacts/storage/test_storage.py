"""What a store needs of the place where its files lie, on a disk and on an S3 server."""

from __future__ import annotations

import hashlib
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from instsynth_dagster.artifacts.manifest import MANIFEST, StoredFile
from instsynth_dagster.artifacts.storage import open_storage
from instsynth_dagster.artifacts.storage.base import Storage
from instsynth_dagster.artifacts.storage.leases import Lease
from instsynth_dagster.artifacts.storage.objects import ObjectStorage
from instsynth_dagster.artifacts.storage.scratch import ScratchMirror
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import ArtifactError, DamagedArtifact, LockLost, SettingsError
from tests.artifacts.storage.s3_server import BUCKET, s3_bucket

FINGERPRINT = "a" * 64


@pytest.fixture(scope="module")
def server():
    with s3_bucket():
        yield


@pytest.fixture(params=["disk", "s3"])
def root(request, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "store")
    request.getfixturevalue("server")
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture
def objects(server, tmp_path: Path) -> ObjectStorage:
    return ObjectStorage(f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "cache")


@pytest.fixture
def storage(root: str, tmp_path: Path) -> Storage:
    return open_storage(root, tmp_path / "cache")


def published(storage: Storage, name: str, content: bytes) -> StoredFile:
    source = storage.staging_directory("crops/car") / f"{name}.tmp"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(content)
    file = StoredFile(name, len(content), hashlib.sha256(content).hexdigest())
    storage.publish("crops/car", source, file)
    assert not source.exists()
    return file


@pytest.mark.slow
def test_files_come_and_go(storage: Storage):
    assert storage.entries("crops/car") == set()
    with pytest.raises(FileNotFoundError):
        storage.read("crops/car/one")
    storage.write("crops/car/one", b"1")
    storage.write("crops/car/one", b"11")
    file = published(storage, "two", b"22")
    assert storage.read("crops/car/one") == b"11"
    assert storage.fetch("crops/car", file).read_bytes() == b"22"
    assert storage.copy("crops/car/two").read_bytes() == b"22"
    assert storage.entries("crops/car") == {"one", "two"}
    assert storage.holds("crops/car", ["one", "two"])
    assert not storage.holds("crops/car", ["one", "three"])
    storage.write("crops/car/folder/deep/three", b"3")
    assert storage.entries("crops/car") == {"one", "two", "folder"}
    assert sorted(storage.names("crops")) == ["car/folder/deep/three", "car/one", "car/two"]
    assert storage.names("never there") == []
    assert storage.read_many(["crops/car/folder/deep/three", "crops/none"]) == {"crops/car/folder/deep/three": b"3"}
    assert storage.read_many([]) == {}
    storage.remove("crops/car", ["one", "folder", "never there"])
    assert storage.entries("crops/car") == {"two"}


def write(store: Store, rows: list[dict], fingerprint: str = FINGERPRINT) -> None:
    with store.write("crops", "aachen|car", fingerprint) as out:
        for row in rows[out.resumed_rows :]:
            out.add(row)
        (out.folder("checkpoint") / "inner").mkdir(exist_ok=True)
        (out.folder("checkpoint") / "inner" / "weights").write_bytes(b"w" * 10)
        (out.scratch() / "state").write_text("gone after the commit")


@pytest.mark.slow
def test_a_partition_is_the_same_wherever_it_lies(root: str, tmp_path: Path):
    rows = [{"name": str(index), "value": index, "device_seconds": 0.5} for index in range(7)]
    made, other = Store(root, 3, tmp_path / "cache"), Store(tmp_path / "disk", 3)
    write(made, rows)
    write(other, rows)
    elsewhere = Store(root, 3, tmp_path / "another machine's cache")
    manifest = elsewhere.require("crops", "aachen|car")
    assert manifest.digest == other.require("crops", "aachen|car").digest
    pd.testing.assert_frame_equal(elsewhere.read("crops", "aachen|car"), pd.DataFrame(rows))
    assert [row["value"] for row in elsewhere.iterate("crops", "aachen|car")] == list(range(7))
    folder = elsewhere.folder("crops", "aachen|car", "checkpoint")
    assert (folder / "inner" / "weights").read_bytes() == b"w" * 10
    assert elsewhere.snapshot()("crops", "aachen|car") == manifest
    assert elsewhere.snapshot()("crops", "aachen|bus") is None
    kept = {MANIFEST, *(file.path.split("/")[0] for file in manifest.files())}
    assert elsewhere.storage.entries("crops/aachen/car") == kept


@pytest.mark.slow
def test_another_machine_goes_on_where_a_killed_one_was(root: str, tmp_path: Path):
    rows = [{"value": index} for index in range(8)]
    abandoned = Store(root, 3, tmp_path / "killed").write("crops", "aachen|car", FINGERPRINT).__enter__()
    for row in rows[:7]:
        abandoned.add(row)
    survivor = Store(root, 3, tmp_path / "survivor")
    assert survivor.manifest("crops", "aachen|car") is None
    with survivor.write("crops", "aachen|car", FINGERPRINT) as out:
        assert out.resumed_rows == 6
        for row in rows[6:]:
            out.add(row)
    assert survivor.read("crops", "aachen|car")["value"].tolist() == list(range(8))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped", "truncated", "lengthened"])
def test_damage_is_found_named_and_set_aside(root: str, tmp_path: Path, damage: str):
    store = Store(root, 3, tmp_path / "cache")
    write(store, [{"value": index} for index in range(7)])
    digest = store.require("crops", "aachen|car").digest
    part = store.require("crops", "aachen|car").parts[1].path
    content = bytearray(store.storage.read(f"crops/aachen/car/{part}"))
    content[len(content) // 2] ^= 1
    wrong = {"flipped": content, "truncated": content[:-5], "lengthened": content + b"!"}[damage]
    store.storage.write(f"crops/aachen/car/{part}", bytes(wrong))
    reader = Store(root, 3, tmp_path / "elsewhere")
    with pytest.raises(DamagedArtifact, match=rf"{part}: damaged.*refresh makes crops\[aachen\|car\] again"):
        list(reader.iterate("crops", "aachen|car"))
    assert reader.manifest("crops", "aachen|car") is None
    with reader.write("crops", "aachen|car", FINGERPRINT) as out:
        assert out.resumed_rows == 3  # what lies before the damage is still good
        for index in range(3, 7):
            out.add({"value": index})
        (out.folder("checkpoint") / "inner").mkdir(exist_ok=True)
        (out.folder("checkpoint") / "inner" / "weights").write_bytes(b"w" * 10)
    assert reader.require("crops", "aachen|car").digest == digest


@pytest.mark.slow
@pytest.mark.parametrize("position", [0, 40, -40])
def test_a_damaged_part_of_an_unfinished_run_is_made_again(root: str, tmp_path: Path, position: int):
    store = Store(root, 2, tmp_path / "cache")
    abandoned = store.write("crops", "aachen|car", FINGERPRINT).__enter__()
    for index in range(6):
        abandoned.add({"value": index})
    (part,) = (name for name in store.storage.entries("crops/aachen/car") if "-00001." in name)
    content = bytearray(store.storage.read(f"crops/aachen/car/{part}"))
    content[position] ^= 1
    store.storage.write(f"crops/aachen/car/{part}", bytes(content))
    with store.write("crops", "aachen|car", FINGERPRINT) as out:
        assert out.resumed_rows == 2
        for index in range(2, 6):
            out.add({"value": index})
    assert store.read("crops", "aachen|car")["value"].tolist() == list(range(6))


@pytest.mark.slow
def test_one_writer_at_a_time(root: str, tmp_path: Path):
    """Eight threads, each with a store of its own, add to a file that nothing else protects."""
    inside, most, said = [], [], []

    def work(number: int) -> None:
        store = Store(root, cache=tmp_path / str(number))
        with store.lock("crops", "aachen|car", said.append) as lock:
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            lock.check()
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 4
    assert all("waiting for another run that makes crops[aachen|car] (" in line for line in said)
    assert said


class Clock:
    """Stands for `time` where a lease looks at it; time passes when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("instsynth_dagster.artifacts.storage.leases.time", clock)
    return clock


TERM = 1000.0
"""Of leases in these tests: their own heart never beats."""


def leased(storage: ObjectStorage, said: list[str] | None = None) -> Lease:
    return Lease(storage, ".locks/crops/car", "another run", (said if said is not None else []).append, TERM)


@pytest.mark.slow
def test_a_dead_holder_is_succeeded_and_a_sleeping_one_finds_out(objects: ObjectStorage, clock, monkeypatch):
    sleeping = leased(objects)
    sleeping.__enter__()
    said: list[str] = []
    waits = iter([TERM, 1.0])

    def wait(_: float) -> None:
        clock.now += next(waits)  # a third wait would be one too many

    monkeypatch.setattr("instsynth_dagster.artifacts.waiting.time.sleep", wait)
    with leased(objects, said) as successor:
        assert clock.now == TERM + 1
        successor.check()
        with pytest.raises(LockLost):
            sleeping.check()
        sleeping.__exit__(None, None, None)  # does not disturb the successor
        successor.check()
    assert said[0].startswith("waiting for another run (process ")
    with leased(objects) as third:
        third.check()
    assert len(objects.names(".locks/crops/car")) == 1


@pytest.mark.slow
def test_a_living_holder_is_never_succeeded(objects: ObjectStorage, clock, monkeypatch):
    holder, waits = leased(objects), iter(range(8))
    holder.__enter__()

    def wait(_: float) -> None:
        clock.now += 0.9 * TERM
        if next(waits, None) is None:  # several terms later
            holder.check()
            holder.__exit__(None, None, None)
        else:
            holder.renew()

    monkeypatch.setattr("instsynth_dagster.artifacts.waiting.time.sleep", wait)
    with leased(objects):
        assert next(waits, None) is None


@pytest.mark.slow
def test_a_heart_renews_until_it_is_stopped_or_overtaken(objects: ObjectStorage):
    with Lease(objects, ".locks/crops/car", "another run", print, term=0.04) as lease:
        (first,) = objects.names(".locks/crops/car")
        before = objects.read(f".locks/crops/car/{first}")
        while objects.read(f".locks/crops/car/{first}") == before:
            pass
        objects.create(".locks/crops/car/00000009.json", b"{}")
        lease._heart.join(60)
        assert not lease._heart.is_alive()


@pytest.mark.slow
def test_of_many_creators_one_wins(objects: ObjectStorage):
    won = []

    def create(number: int) -> None:
        if objects.create("lock", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert objects.read("lock") == str(won[0]).encode()


@pytest.mark.slow
def test_scratch_travels_and_its_marker_comes_last(objects: ObjectStorage, tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    with ScratchMirror(objects, "model/all/scratch", here, every=60) as mirror:
        (here / "checkpoint-1").mkdir()
        (here / "checkpoint-1" / "weights").write_bytes(b"w")
        mirror.upload(settled=0)
        (here / "checkpoint-1" / "state.json").write_text("{}")
        mirror.upload(settled=30)  # too young
        assert objects.names("model/all/scratch") == ["checkpoint-1/weights"]
    with ScratchMirror(objects, "model/all/scratch", there, every=60) as mirror:
        assert (there / "checkpoint-1" / "state.json").read_text() == "{}"
        (there / "checkpoint-1" / "weights").unlink()
        mirror.upload(settled=0)
        assert objects.names("model/all/scratch") == ["checkpoint-1/state.json"]


@pytest.mark.slow
def test_a_store_that_refuses_for_a_while_is_asked_again(objects: ObjectStorage, monkeypatch):
    monkeypatch.setattr("instsynth_dagster.artifacts.storage.objects._WAITS", (0.0, 0.0, 0.0))
    original, refusals = objects._fs.pipe_file, [OSError("SlowDown"), TimeoutError("no answer")]

    def refusing(*args, **kwargs):
        if refusals:
            raise refusals.pop()
        return original(*args, **kwargs)

    monkeypatch.setattr(objects._fs, "pipe_file", refusing)
    objects.write("one", b"1")
    assert objects.read("one") == b"1"
    refusals += [OSError("SlowDown")] * 4
    with pytest.raises(ConnectionError, match=r"does not answer: SlowDown"):
        objects.write("two", b"2")
    monkeypatch.setattr(objects._fs, "pipe_file", lambda *_: (_ for _ in ()).throw(PermissionError("forbidden")))
    with pytest.raises(ArtifactError, match=r"access denied \(forbidden\); check the credentials"):
        objects.write("three", b"3")


def test_an_unknown_kind_of_store_is_named(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"artifacts\.root: 'nowhere://x'"):
        open_storage("nowhere://x", tmp_path)
    with pytest.raises(SettingsError, match=r"gs:// needs its fsspec driver; install it"):
        open_storage("gs://bucket", tmp_path)
