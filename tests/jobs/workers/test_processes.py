"""Worker processes of one machine: who gets which run, and what a death of theirs or of their refresh leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from assets import build_graph
from instsynth_dagster.artifacts.locking import is_alive
from instsynth_dagster.artifacts.store import open_store
from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import Settings, WorkerSettings
from jobs import workers
from jobs.refresh import refresh
from jobs.workers import count_processes, processes
from jobs.workers.orphans import PROCESS
from jobs.workers.processes import GB, Lane, Processes, lanes
from jobs.workers.runs import refresh_tag
from resources import build_resources
from tests.assets.test_graph import Project, settings_for

HELD_UP = "INSTSYNTH_TEST_HELD_UP"
"""Folder into which processes that are held up write their process id."""
REFRESH = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
from pathlib import Path
import dagster as dg
from assets import build_graph
from jobs.refresh import refresh
from instsynth_dagster.artifacts.store import open_store
from tests.assets.test_graph import settings_for
from tests.jobs.workers.test_processes import held_up, two_processes

settings = settings_for(Path(sys.argv[1]))
with dg.DagsterInstance.local_temp(str(Path(sys.argv[1]) / "home")) as instance:
    with two_processes(settings, instance, print, held_up) as workers:
        refresh(build_graph(settings), open_store(settings), workers, print)
"""


def two_processes(
    settings: Settings, instance: dg.DagsterInstance, log, resources=build_resources, on_device: Collection[str] = ()
) -> Processes:
    """Two for every asset; or two and a third one, which alone makes the assets of the device."""
    places = lanes(2, 1 if on_device else 0)
    return Processes(settings, instance, places, on_device, refresh_tag("refresh-1"), log, resources)


class HeldUp(CityscapesData):
    """A data set whose frames never come."""

    def of_cities(self, *_: Any) -> CityscapesData:
        return self

    def frame_table(self, city: str) -> pd.DataFrame:
        (Path(os.environ[HELD_UP]) / str(os.getpid())).touch()
        while True:
            time.sleep(0.1)


class KilledOnce(CityscapesData):
    """A data set that kills the first process that asks for frames."""

    def of_cities(self, *_: Any) -> CityscapesData:
        return self

    def frame_table(self, city: str) -> pd.DataFrame:
        try:
            (Path(os.environ[HELD_UP]) / "killed").touch(exist_ok=False)
        except FileExistsError:
            return super().frame_table(city)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def held_up(settings: Settings) -> dict[str, Any]:
    return build_resources(settings) | {"dataset": HeldUp(settings.dataset.root, settings.labels)}


def killed_once(settings: Settings) -> dict[str, Any]:
    return build_resources(settings) | {"dataset": KilledOnce(settings.dataset.root, settings.labels)}


def always_killed(settings: Settings) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    (tmp_path / "home").mkdir()
    (tmp_path / "held").mkdir()
    monkeypatch.setenv(HELD_UP, str(tmp_path / "held"))
    return Project(tmp_path)


def refreshed(
    project: Project, said: list[str], resources=build_resources, on_device: Collection[str] = (), **changes: Any
) -> dg.DagsterInstance:
    settings = settings_for(project.root, **changes)
    instance = dg.DagsterInstance.local_temp(str(project.root / "home"))
    with two_processes(settings, instance, said.append, resources, on_device) as workers:
        refresh(build_graph(settings), open_store(settings), workers, said.append)
    return instance


@pytest.mark.slow
def test_everything_is_made_by_processes_and_a_killed_one_is_replaced(project, tmp_path):
    said: list[str] = []
    from tests.segmenters.test_contract import TINY
    from tests.segmenters.toy import tiny

    trained = {"segmenters": {"tiny": tiny(kind="eomt", steps=1, **TINY["eomt"]).model_dump(exclude_unset=True)}}
    learned = {"trained_segmenters", "segmentation_scores", "segmenter_costs"}
    instance = refreshed(project, said, killed_once, learned, **trained)
    runs = instance.get_runs()
    assert "was killed (SIGKILL); another one repeats it" in "\n".join(said)
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
    of_device = {run.tags[PROCESS] for run in runs if {key.to_user_string() for key in run.asset_selection} & learned}
    assert len(of_device) == 1
    assert len({run.tags[PROCESS] for run in runs} - of_device) == 3
    assert {run.tags["instsynth/refresh"] for run in runs} == {"refresh-"}
    assert not any("dagster/parent_run_id" in run.tags or "dagster/root_run_id" in run.tags for run in runs)
    # the only job that a code location has for single assets: links of lists of runs lead to the asset
    assert {run.job_name for run in runs} == {"__ASSET_JOB"}
    made = {key.to_user_string() for run in runs for key in run.asset_selection}
    assert {"frames", "zoom_crop/is_cityscapes", "trained_segmenters"} <= made
    assert not any(is_alive(int(run.tags[PROCESS])) for run in runs)
    alone = Project(tmp_path / "alone")
    alone.refresh(**trained)
    settings = settings_for(project.root, **trained)
    store = open_store(settings)
    for key, partition in project.partitions(build_graph(settings)):
        if key == "report":  # names the folder of its data set
            continue
        assert store.require(key, partition).digest == alone.store.require(key, partition).digest, (key, partition)


@pytest.mark.slow
def test_a_failing_partition_is_named_and_what_was_made_stays(project):
    victim = project.root / "data/leftImg8bit/train/birchley/birchley_000000_000001_leftImg8bit.png"
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(dg.Failure, match=victim.name):
        refreshed(project, [])
    store = open_store(settings_for(project.root))
    assert store.manifest("frames", "birchley") is None
    assert store.manifest("frames", "ashford")


@pytest.mark.slow
def test_a_process_that_is_always_killed_is_no_endless_loop(project):
    said: list[str] = []
    with pytest.raises(dg.Failure, match=r"killed \(SIGKILL\); if memory ran out, lower workers\.processes"):
        refreshed(project, said, always_killed)


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_processes_do_not_outlive_their_refresh(project, by):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    starter = subprocess.Popen(
        [sys.executable, "-c", REFRESH, str(project.root)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    held = project.root / "held"
    while len(list(held.iterdir())) < 2:
        assert starter.poll() is None, starter.stderr
        time.sleep(0.05)
    starter.send_signal(by)
    starter.communicate()
    for process in held.iterdir():
        while is_alive(int(process.name)):
            time.sleep(0.05)
    store = open_store(settings_for(project.root))
    with store.lock("frames", "ashford", pytest.fail):
        pass
    assert store.manifest("frames", "ashford") is None


def asset(key: str) -> Asset:
    return Asset(key, "1", {}, lambda _: None, lambda _: [])


class Answering:
    """Stands where a process would: answers when it is told to."""

    def __init__(self) -> None:
        self.ours, self.theirs = Pipe()

    def answer(self, held: int = 0) -> None:
        self.theirs.recv()
        self.theirs.send(("", held))

    def wait(self, *_: Any) -> int:
        return 0


@pytest.fixture
def pool(project, monkeypatch):
    started: list[Answering] = []

    def start(self: Processes, number: int) -> Any:
        started.append(Answering())
        return processes._Process(number, started[-1], started[-1].ours)  # type: ignore[arg-type]

    monkeypatch.setattr(Processes, "_start", start)

    def make(places: list[Lane]) -> tuple[Processes, list[Answering], list[str]]:
        said: list[str] = []
        instance = dg.DagsterInstance.local_temp(str(project.root / "home"))
        return Processes(settings_for(project.root), instance, places, {"crops"}, {}, said.append), started, said

    return make


def test_a_gpu_has_one_step_at_a_time_and_the_cores_have_the_others(pool):
    given, started, _ = pool(lanes(processes=2, gpus=1))
    crops, frames = asset("crops"), asset("frames")
    first = given.submit(crops, "all", "all")
    assert not given.has_room(crops)
    assert [given.submit(frames, "all", "all") for _ in range(2)]
    assert not given.has_room(frames)
    started[0].answer()
    given.wait()
    assert given.outcome(first) == ""
    assert given.has_room(crops)
    assert not given.has_room(frames)
    given.submit(crops, "all", "all")
    assert len(started) == 3  # the process that has the models loaded is kept


def test_without_a_gpu_every_process_takes_every_step(pool):
    given, started, _ = pool(lanes(processes=2, gpus=0))
    given.submit(asset("crops"), "all", "all")
    given.submit(asset("crops"), "all", "all")
    assert not given.has_room(asset("frames"))
    assert len(started) == 2


def test_a_process_that_holds_too_much_memory_is_replaced(pool):
    given, started, said = pool(lanes(processes=1, gpus=0))
    for held in (1 * GB, 4 * GB, 0):
        given.submit(asset("crops"), "all", "all")
        started[-1].answer(held)
        given.wait()
    assert len(started) == 2
    assert said == ["a worker process holds 4.0 GB after crops; it is replaced by a new one"]


@pytest.mark.parametrize(
    ("given", "cores", "gigabytes", "expected"),
    [({}, 8, 64, 8), ({}, 8, 7, 2), ({"threads": 4}, 8, 64, 2), ({}, 1, 1, 1), ({"processes": 5}, 2, 4, 5)],
)
def test_processes_are_as_many_as_cores_and_memory_allow(monkeypatch, given, cores, gigabytes, expected):
    monkeypatch.setattr(workers, "_cores", lambda: cores)
    monkeypatch.setattr(workers, "_memory", lambda: gigabytes * GB)
    assert count_processes(WorkerSettings.model_validate(given)) == expected
