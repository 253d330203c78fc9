"""The walk over the graph, its runs made in this process as they are submitted."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import ceil

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.graph.staleness import Asset
from jobs.refresh import Refreshed, partition_ranges, partitions_between, refresh
from jobs.workers.runs import AssetRuns
from resources import build_resources
from tests.assets.test_graph import Project, settings_for


class Here:
    """Workers that make a run when it is submitted, and report it when they were asked `slow` times before; the run
    `slower` when they were asked more often."""

    runs_per_asset = 2

    def __init__(self, project: Project, slow: int = 0, slower: str = "", room: int = 99, **changes) -> None:
        settings = settings_for(project.root, **changes)
        self.graph = build_graph(settings)
        self._resources = build_resources(settings)
        self._runs = AssetRuns(build_assets(self.graph), self._resources, project.instance, {})
        self.store: Store = self._resources["store"]
        self._slow, self._slower, self._room = slow, slower, room
        self._asked: dict[str, int] = {}
        self._outcomes: dict[str, str] = {}
        self._late: dict[str, Callable[[], object]] = {}
        self.submitted: list[tuple[str, str, str]] = []
        self.at_once: set[frozenset[str]] = set()
        self.most = 0
        self.left: dict[str, tuple[str, Callable[[], object]]] = {}
        self.said: list[str] = []

    def has_room(self, asset: Asset) -> bool:
        return len(self._unfinished()) < self._room

    def submit(self, asset: Asset, first: str, last: str) -> str:
        run = f"{asset.key} {first} {last}"
        self.submitted.append((asset.key, first, last))
        failure = self._runs.make(asset.key, first, last)
        self._outcomes[run] = "a check failed" if failure else ""
        self.most = max(self.most, len(self._unfinished()))
        return run

    def wait(self) -> None:
        self.at_once.add(frozenset(run.split(" ")[0] for run in self._unfinished()))

    def _unfinished(self) -> set[str]:
        return {run for run in self._outcomes if not self._over(run)}

    def _over(self, run: str) -> bool:
        return self._asked.get(run, 0) > (9 if run == self._slower else self._slow)

    def unfinished(self, asset: Asset) -> list[str]:
        """A run that some other refresh has queued, and that makes its partitions when it is over."""
        if asset.key not in self.left:
            return []
        run, make = self.left.pop(asset.key)
        self._outcomes[run], self._late[run] = "", make
        return [run]

    def outcome(self, run: str) -> str | None:
        self._asked[run] = self._asked.get(run, 0) + 1
        if not self._over(run):
            return None
        self._late.pop(run, lambda: None)()
        return self._outcomes[run]

    def refresh(self) -> Refreshed:
        return refresh(self.graph, self.store, self, self.said.append)


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


@pytest.mark.slow
def test_everything_once_then_nothing_and_an_equal_partition_stops_the_wave(project):
    cluster = Here(project)
    assert cluster.refresh().partitions == len(project.partitions(cluster.graph))
    assert Here(project).refresh().partitions == 0

    (cluster.store.directory("selected_instances", "ashford|car") / "manifest.json").unlink()
    again = Here(project)
    again.refresh()
    assert again.submitted == [("selected_instances", "ashford|car", "ashford|car")]


@pytest.mark.slow
def test_what_an_asset_took_is_told_as_work_and_as_time_that_passed(project):
    workers = Here(project, slow=1, room=1)
    made = workers.refresh().partitions
    told = [line for line in workers.said if "done" in line]
    pattern = r"\[\d/8\] \S+: done, (\d+) partitions? in \d+\.\d s of work, \d+\.\d s after the first run began"
    counts = [int(match[1]) for line in told if (match := re.fullmatch(pattern, line))]
    assert len(counts) == len(told) == len(workers.graph)
    assert sum(counts) == made


@pytest.mark.slow
def test_digests_do_not_depend_on_how_the_graph_is_cut_into_runs(project, tmp_path):
    here = Here(project)
    here.refresh()
    other = Project(tmp_path / "other")
    other.refresh()
    for key, partition in project.partitions(here.graph):
        ours, theirs = here.store.require(key, partition), other.store.require(key, partition)
        assert ours.digest == theirs.digest, (key, partition)


@pytest.mark.slow
def test_assets_that_do_not_read_one_another_are_at_work_together(project):
    cluster = Here(project, slow=2)
    cluster.refresh()
    assert any({"frames", "prompt_bank"} <= group for group in cluster.at_once)
    assert not any({"frames", "instances"} <= group for group in cluster.at_once)


@pytest.mark.slow
def test_a_failed_run_is_named_and_starts_nothing_more(project):
    source = project.root / "data/leftImg8bit/val/valdale/valdale_000000_000000_leftImg8bit.png"
    target = project.root / "data/leftImg8bit/train/ashford/ashford_000000_000001_leftImg8bit.png"
    target.write_bytes(source.read_bytes())
    cluster = Here(project)
    with pytest.raises(dg.Failure) as caught:
        cluster.refresh()
    assert caught.value.description == "splits: a check failed"
    assert {key for key, _, _ in cluster.submitted} == {"frames", "prompt_bank", "splits", "instances"}
    assert cluster.store.manifest("frames", "valdale")


@pytest.mark.slow
def test_runs_that_an_earlier_refresh_left_are_waited_for_and_not_doubled(project):
    first = Here(project)
    second = Here(project, slow=3)
    second.left = {"frames": ("left", lambda: first.submit(first.graph["frames"], "ashford", "valdale"))}
    second.refresh()
    assert "frames" not in {key for key, _, _ in second.submitted}
    assert second.said.count("[1/8] frames: 1 runs of an earlier refresh are still running") == 1


@pytest.mark.slow
def test_a_worker_with_other_settings_is_told_from_one_that_failed(project):
    cluster = Here(project)
    cluster.graph = build_graph(settings_for(project.root, selection={"min_area": 50, "k": 1}))
    with pytest.raises(dg.Failure, match="a worker has other settings or code"):
        cluster.refresh()


@given(data=st.data(), pieces=st.integers(1, 9))
def test_pieces_cover_what_is_stale_exactly(data, pieces):
    rows = [f"r{n}" for n in range(data.draw(st.integers(1, 6)))]
    columns = [f"c{n}" for n in range(data.draw(st.integers(1, 6)))]
    dimensions = {"city": rows, "class": columns} if data.draw(st.booleans()) else {"city": rows}
    asset = Asset("a", "1", dimensions, lambda _: None, lambda _: [])
    stale = [key for key in asset.partitions if data.draw(st.booleans())]
    if not stale:
        return
    found = list(partition_ranges(asset, stale, ceil(len(stale) / pieces)))
    assert sorted(partition for corners in found for partition in partitions_between(asset, *corners)) == sorted(stale)
    if stale == asset.partitions:
        assert len(found) <= pieces


@pytest.mark.slow
def test_a_file_that_a_run_finds_damaged_is_made_again(project, bring_up_to_date):
    bring_up_to_date(project)
    cluster = Here(project, selection={"min_area": 50, "k": 1})
    part = next(cluster.store.directory("instances", "ashford").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    cluster.refresh()
    assert ("instances", "ashford", "ashford") in cluster.submitted
    assert Here(project, selection={"min_area": 50, "k": 1}).refresh().partitions == 0


@pytest.mark.slow
def test_a_partition_does_not_wait_for_others_of_the_assets_it_reads(project, bring_up_to_date):
    """While crops of one class are still being cut, windows are made of those of the others."""
    bring_up_to_date(project)
    crops, windows = "selected_instances", "zoom_crop/is_cityscapes"
    cluster = Here(project, slower=f"{crops} birchley|car birchley|car", selection={"min_area": 50, "k": 1})
    cluster.runs_per_asset = 8  # a partition each
    cluster.refresh()
    assert frozenset({crops, windows}) in cluster.at_once


@pytest.mark.slow
def test_no_more_is_submitted_than_there_is_room_for(project):
    cluster = Here(project, slow=2, room=3)
    cluster.runs_per_asset = 8
    cluster.refresh()
    assert cluster.most == 3
    assert Here(project).refresh().partitions == 0
