"""Looking at many partitions takes few requests to an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import DamagedArtifact
from tests.artifacts.storage.s3_server import BUCKET, counted_requests, s3_bucket

CITIES, CLASSES = [f"city{number}" for number in range(8)], ("car", "bus")
PARTITIONS = [f"{city}|{name}" for city in CITIES for name in CLASSES]
REFS = [("crops", partition) for partition in PARTITIONS] + [("prompts", "all")]


@pytest.fixture(scope="module")
def server():
    with s3_bucket() as running:
        yield running


@pytest.fixture(scope="module")
def root(server, tmp_path_factory) -> str:
    root = f"s3://{BUCKET}/snapshot"
    store = Store(root, 2, tmp_path_factory.mktemp("cache"))
    for asset, partition in REFS:
        with store.write(asset, partition, "f" * 64) as out:
            out.add({"value": 1})
    return root


@pytest.mark.slow
@pytest.mark.parametrize("refs", [None, REFS])
def test_all_manifests_take_one_request_each_and_a_listing(server, root, tmp_path: Path, refs):
    store = Store(root, cache=tmp_path)
    with counted_requests(server) as requests:
        manifest_of = store.snapshot(refs)
        for _ in range(3):  # a fingerprint before and after the lock, the checks of what is upstream
            found = [manifest_of(*ref) for ref in REFS]
    assert found == [store.manifest(*ref) for ref in REFS]
    listings = 1 if refs is None else 2
    assert len(requests) == len(REFS) + listings


@pytest.mark.slow
def test_reading_a_partition_takes_its_manifest_and_its_parts(server, root, tmp_path: Path):
    store = Store(root, cache=tmp_path)
    with counted_requests(server) as requests:
        store.read("crops", PARTITIONS[0])
    assert len([line for line in requests if line.startswith("GET")]) == 2
    with counted_requests(server) as requests:
        store.read("crops", PARTITIONS[0])
    assert len(requests) == 1


@pytest.mark.slow
def test_what_was_not_asked_for_is_looked_at_by_itself(root, tmp_path: Path):
    store = Store(root, cache=tmp_path)
    manifest_of = store.snapshot([("crops", PARTITIONS[0])])
    assert manifest_of("crops", PARTITIONS[5]) == store.manifest("crops", PARTITIONS[5])
    assert manifest_of("crops", "nowhere|car") is None
    assert store.snapshot([("crops", "nowhere|car")])("crops", "nowhere|car") is None
    assert store.snapshot([])("prompts", "all") == store.manifest("prompts", "all")


@pytest.mark.slow
def test_what_is_not_whole_is_not_there(root, tmp_path: Path):
    store = Store(f"{root}-damaged", 1, tmp_path)
    for partition in ("missing", "damaged", "fresh"):
        with store.write("crops", partition, "f" * 64) as out:
            out.add({"value": 1})
    (part,) = store.require("crops", "missing").parts
    store.storage.remove("crops/missing", [part.path])
    store.storage.write("crops/damaged/manifest.json", b"{}")
    for refs in (None, [("crops", "missing"), ("crops", "damaged"), ("crops", "fresh")]):
        manifest_of = store.snapshot(refs)
        assert manifest_of("crops", "missing") is None
        with pytest.raises(DamagedArtifact):
            manifest_of("crops", "damaged")
        before = manifest_of("crops", "fresh")
        with store.write("crops", "fresh", "a" * 64) as out:
            out.add({"value": 2})
        assert manifest_of("crops", "fresh") == before
        manifest_of.forget("crops")
        assert manifest_of("crops", "fresh").rows == 1 != before
        assert manifest_of("crops", "fresh") != before
        with store.write("crops", "fresh", "f" * 64) as out:
            out.add({"value": 1})
