"""The distributed walk of the graph, its runs made in this process as they are submitted."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets import build_assets, build_graph
from assets.shared.partitions import asset_key, partition_tags
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.graph.staleness import Asset
from jobs.distribute import cut, distribute
from jobs.refresh import QUIET
from jobs.walking import Refreshed
from resources import build_resources
from tests.assets.test_graph import Project, settings_for


class Here:
    """A cluster of one: a run is over when it is submitted, and reports as late as `slow` asks."""

    runs_per_asset = 2

    def __init__(self, project: Project, slow: int = 0, **changes) -> None:
        self._settings = settings_for(project.root, **changes)
        self.graph = build_graph(self._settings)
        self._resources = build_resources(self._settings)
        self._assets = build_assets(self._settings, self.graph)
        self.store: Store = self._resources["store"]
        self._slow = slow
        self._asked: dict[str, int] = {}
        self._outcomes: dict[str, str] = {}
        self.submitted: list[tuple[str, str, str]] = []
        self.at_once: set[frozenset[str]] = set()
        self.left: dict[str, list[str]] = {}
        self.said: list[str] = []

    def submit(self, asset: Asset, first: str, last: str) -> str:
        run = f"{asset.key} {first} {last}"
        self.submitted.append((asset.key, first, last))
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize(
                self._assets,
                selection=dg.AssetSelection.assets(asset_key(asset.key)),
                resources=self._resources,
                instance=instance,
                tags=partition_tags(first, last),
                run_config=QUIET,
                raise_on_error=False,
            )
        self._outcomes[run] = "" if result.success else "a check failed"
        return run

    def unfinished(self, asset: Asset) -> list[str]:
        runs = self.left.get(asset.key, [])
        return [run for run in runs if self._asked.get(run, 0) <= self._slow]

    def outcome(self, run: str) -> str | None:
        self._asked[run] = self._asked.get(run, 0) + 1
        if self._asked[run] <= self._slow:
            unfinished = {key for key in self._outcomes if self._asked.get(key, 0) <= self._slow}
            self.at_once.add(frozenset(key.split(" ")[0] for key in unfinished))
            return None
        return self._outcomes[run]

    def refresh(self) -> Refreshed:
        return distribute(self.graph, self.store, self, self.said.append)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.distribute._EVERY", 0)


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def test_everything_once_then_nothing_and_an_equal_partition_stops_the_wave(project):
    cluster = Here(project)
    assert cluster.refresh().partitions == len(project.partitions(cluster.graph))
    assert Here(project).refresh().partitions == 0

    (cluster.store.directory("selected_instances", "ashford|car") / "manifest.json").unlink()
    again = Here(project)
    again.refresh()
    assert again.submitted == [("selected_instances", "ashford|car", "ashford|car")]


def test_the_digests_are_those_of_a_refresh_in_one_process(project, tmp_path):
    here = Here(project)
    here.refresh()
    other = Project(tmp_path / "other")
    other.refresh()
    for key, partition in project.partitions(here.graph):
        ours, theirs = here.store.require(key, partition), other.store.require(key, partition)
        assert ours.digest == theirs.digest, (key, partition)


def test_assets_that_do_not_read_one_another_are_at_work_together(project):
    cluster = Here(project, slow=2)
    cluster.refresh()
    assert any({"frames", "prompt_bank"} <= group for group in cluster.at_once)
    assert not any({"frames", "instances"} <= group for group in cluster.at_once)


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


def test_runs_that_an_earlier_refresh_left_are_waited_for_and_not_doubled(project):
    first = Here(project)
    left = first.submit(first.graph["frames"], "ashford", "valdale")
    second = Here(project, slow=3)
    second.left = {"frames": [left]}
    second._outcomes[left] = ""
    second.refresh()
    assert "frames" not in {key for key, _, _ in second.submitted}
    assert second.said.count("frames: 1 runs of an earlier refresh are at work") == 1


def test_a_worker_with_other_settings_is_told_from_one_that_failed(project):
    cluster = Here(project)
    cluster.graph = build_graph(settings_for(project.root, selection={"min_area": 50, "k": 1}))
    with pytest.raises(dg.Failure, match="a worker has other settings or code"):
        cluster.refresh()


def _covered(asset: Asset, pieces: list[tuple[str, str]]) -> Iterator[str]:
    order = asset.partitions
    for first, last in pieces:
        yield from order[order.index(first) : order.index(last) + 1]


@given(data=st.data(), pieces=st.integers(1, 9))
def test_pieces_cover_what_is_stale_exactly(data, pieces):
    rows = [f"r{n}" for n in range(data.draw(st.integers(1, 6)))]
    columns = [f"c{n}" for n in range(data.draw(st.integers(1, 6)))]
    dimensions = {"city": rows, "class": columns} if data.draw(st.booleans()) else {"city": rows}
    asset = Asset("a", "1", dimensions, lambda _: None, lambda _: [])
    stale = [key for key in asset.partitions if data.draw(st.booleans())]
    if not stale:
        return
    found = list(cut(asset, stale, pieces))
    assert sorted(_covered(asset, found)) == sorted(stale)
    if stale == asset.partitions:
        assert len(found) <= pieces


def test_a_file_that_a_run_finds_damaged_is_made_again(project):
    Here(project).refresh()
    cluster = Here(project, selection={"min_area": 50, "k": 1})
    part = next(cluster.store.directory("instances", "ashford").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    cluster.refresh()
    assert ("instances", "ashford", "ashford") in cluster.submitted
    assert Here(project, selection={"min_area": 50, "k": 1}).refresh().partitions == 0
