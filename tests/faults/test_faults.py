"""Faults that really happen to real runs: kills, a full disk, damage, a store that refuses, two runs at once."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import fsspec
import pandas as pd
import pytest
import torch

from assets import build_graph
from instsynth_dagster.artifacts.costs import Ledger
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.settings import Settings
from tests.artifacts.storage.s3_server import BUCKET, s3_bucket
from tests.faults.nursery import KILLS_EACH, PHASES, Nursery, refreshed, whole_or_absent
from tests.toy_run import ARMS, CLASSES, CROPS, MODEL, SEGMENTERS, copied, raw_settings, toy_settings

pytestmark = pytest.mark.slow
WINDOWS = "diffinpainting/is_cityscapes"


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As in the processes that are started here: a training's last bits depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(folder: Path, toy_run: Path, train: bool = False, root: str | None = None, **changes) -> Settings:
    """Those of the toy run, with artifacts below `folder`."""
    raw = raw_settings(folder, toy_run / MODEL, arms=ARMS, segmenters=SEGMENTERS if train else {}, **changes)
    artifacts = {"root": root, "cache": str(folder / "cache"), "exports": str(folder / "exports")}
    return Settings.model_validate(raw | ({"artifacts": artifacts} if root else {}))


def digests(store: Store, of: Settings) -> dict[tuple[str, str], str]:
    """Digests of all partitions but the report, which names the folder of its data set."""
    return {
        (key, partition): store.require(key, partition).digest
        for key, asset in build_graph(of).items()
        for partition in asset.partitions
        if key != "report"
    }


@pytest.fixture(scope="module")
def undisturbed(toy_run) -> tuple[dict[tuple[str, str], str], pd.DataFrame]:
    """Digests and the loss curve of a run to which nothing has happened."""
    store = Store(toy_run / "artifacts")
    made = digests(store, Settings.model_validate(toy_settings(toy_run)))
    return made, store.read("trained_segmenters", "diffinpainting-s0|m")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, toy_run) -> Settings:
    """A store in which everything is made; a test that damages it leaves it whole again."""
    folder = tmp_path_factory.mktemp("whole")
    given = settings(folder, toy_run, train=True, dataset=copied(toy_run, folder))
    refreshed(given, lambda _: None)
    return given


def changed(found: dict[tuple[str, str], str], undisturbed) -> list[tuple[str, str]]:
    """Partitions that came out otherwise than undisturbed."""
    return [ref for ref, digest in found.items() if undisturbed[0][ref] != digest]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as started:
        yield started


@pytest.mark.slow
def test_kills_early_and_late_in_every_phase_change_nothing(tmp_path, toy_run, nursery, undisturbed):
    killed = settings(tmp_path, toy_run, train=True, dataset=copied(toy_run, tmp_path, above=CROPS))
    assert nursery("kill", killed) == {"killed": dict.fromkeys(PHASES, KILLS_EACH), "code": 0}
    store = open_store(killed)
    assert changed(digests(store, killed), undisturbed) == []
    pd.testing.assert_frame_equal(store.read("trained_segmenters", "diffinpainting-s0|m"), undisturbed[1])
    left = [path.name for path in tmp_path.rglob("*") if ".tmp-" in path.name or path.name.endswith(".scratch")]
    assert left == []


@pytest.mark.slow
def test_killed_while_generating_it_goes_on_after_its_last_whole_part(tmp_path, toy_run, nursery, undisturbed):
    given = settings(tmp_path, toy_run, dataset=copied(toy_run, tmp_path, above=CROPS))
    assert nursery("kill_after_a_part", given) == {"code": -signal.SIGKILL}
    [part] = (tmp_path / "artifacts" / CROPS).rglob("*.parquet")
    assert not (part.parent / "manifest.json").exists()
    before = part.stat().st_mtime_ns
    store = refreshed(given, lambda _: None)
    assert part.stat().st_mtime_ns == before
    assert changed(digests(store, given), undisturbed) == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, too small for the graph."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_and_a_larger_one_goes_on(tmp_path, toy_run, small_disk, undisturbed):
    given = settings(tmp_path, toy_run, root=str(small_disk / "artifacts"))
    with pytest.raises(dg.Failure, match=r"no space left on the disk; free some; finished work is kept") as caught:
        refreshed(given, lambda _: None)
    assert "\n" not in caught.value.description
    graph, store = build_graph(given), open_store(given)
    whole_or_absent(store, graph, given.artifacts.exports)
    made = [partition for partition in graph[CROPS].partitions if store.manifest(CROPS, partition)]
    assert not store.manifest(WINDOWS, graph[WINDOWS].partitions[-1])
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    lines: list[str] = []
    store = refreshed(given, lines.append)
    assert changed(digests(store, given), undisturbed) == []
    if made:
        assert (
            f"{CROPS}: {len(graph[CROPS].partitions) - len(made)} of" in "\n".join(lines)
            or made == graph[CROPS].partitions
        )


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["part", "checkpoint", "manifest"])
def test_damage_is_named_and_made_again_in_the_same_refresh(undisturbed, whole, victim):
    store = open_store(whole)
    asset, partition = ("trained_segmenters", "real-s0|m") if victim == "checkpoint" else (CROPS, "oakham|car")
    folder = store.directory(asset, partition)
    path = {
        "part": lambda: next(folder.glob("*.parquet")),
        "checkpoint": lambda: next(folder.rglob("model.safetensors")),
        "manifest": lambda: folder / "manifest.json",
    }[victim]()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if victim != "manifest" else 0] ^= 1
    path.write_bytes(bytes(content))
    below = {"checkpoint": ("segmentation_scores", "real-s0|m")}.get(victim, (WINDOWS, "oakham|car"))
    (store.directory(*below) / "manifest.json").unlink()  # something that reads it has to be made
    lines: list[str] = []
    store = refreshed(whole, lines.append)
    told = (
        "its manifest is damaged"
        if victim == "manifest"
        else f"{path.name}: damaged, its digest differs from the manifest"
    )
    assert told in "\n".join(lines)
    assert changed(digests(store, whole), undisturbed) == []
    assert not list(store.directory(asset, partition).rglob("*.damaged"))


class Refusing:
    """A WSGI application that answers so many writes with 503 once it is told to."""

    def __init__(self, application) -> None:
        self._application, self.refusals, self.refused = application, 0, 0

    def __call__(self, environment, start_response):
        if self.refusals and environment["REQUEST_METHOD"] in ("PUT", "POST"):
            self.refusals -= 1
            self.refused += 1
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return self._application(environment, start_response)


def put(folder: Path, prefix: str) -> None:
    """Copy a folder into the bucket."""
    fsspec.filesystem("s3").put(f"{folder}/", f"{prefix}/", recursive=True)


@pytest.mark.slow
def test_a_store_that_refuses_writes_is_waited_for(tmp_path, toy_run, monkeypatch, undisturbed):
    monkeypatch.setattr("instsynth_dagster.artifacts.storage.objects._WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr("assets.shared.stored.RETRY_SECONDS", 0)
    with s3_bucket() as server:
        refusing = server._server.app = Refusing(server._server.app)
        dataset = copied(toy_run, tmp_path, above=CROPS)
        given = settings(tmp_path, toy_run, root=f"s3://{BUCKET}/refusing", dataset=dataset)
        put(tmp_path / "artifacts", f"{BUCKET}/refusing")

        def log(line: str) -> None:
            if f"{CROPS}: " in line and not refusing.refused:
                refusing.refusals = 3  # the driver asks once by itself, and the store once after each wait

        store = refreshed(given, log)
        assert refusing.refused == 3
        assert changed(digests(store, given), undisturbed) == []
        store.storage.remove(f"{WINDOWS}/oakham/car", ["manifest.json"])
        refusing.refusals = 10**6
        with pytest.raises(dg.Failure, match=r"s3://artifacts/refusing does not answer: "):
            refreshed(given, log)
        refusing.refusals = 0
        whole_or_absent(store, build_graph(given), given.artifacts.exports)
        assert changed(digests(refreshed(given, log), given), undisturbed) == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["disk", "s3"])
def test_two_runs_of_one_partition_make_it_once(tmp_path, toy_run, nursery, undisturbed, where):
    with s3_bucket():
        root = f"s3://{BUCKET}/two" if where == "s3" else None
        given = settings(tmp_path, toy_run, root=root, dataset=copied(toy_run, tmp_path, above=CROPS))
        if where == "s3":
            put(tmp_path / "artifacts", f"{BUCKET}/two")
        store = open_store(given)
        assert Ledger(store.storage).spent() == 0
        assert nursery("race", given) == {"codes": [0, 0]}
        assert len(store.storage.names(".costs")) == len(CLASSES)  # paid for once
        assert Ledger(store.storage).spent() > 0
        made = {(CROPS, f"oakham|{name}"): store.require(CROPS, f"oakham|{name}").digest for name in CLASSES}
        assert changed(made, undisturbed) == []
