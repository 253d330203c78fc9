"""What Dagster's UI offers works: backfills, Materialize, and marks that say what the store holds."""

from __future__ import annotations

import shutil

import dagster as dg
import pytest

from assets import build_graph
from assets.shared.events import data_version
from instsynth_dagster.artifacts.manifest import MANIFEST
from instsynth_dagster.artifacts.store import open_store
from instsynth_dagster.graph.staleness import plan
from tests.assets.test_graph import Project, settings_for
from tests.webserver import Browser, browser

pytestmark = pytest.mark.slow
FEW = {"classes": ["car", "bicycle"], "prompts": {name: {"templates": [f"a {name}"]} for name in ("car", "bicycle")}}


@pytest.fixture
def ui(tmp_path):
    """A project of two classes, so that a run of everything is quick."""
    Project(tmp_path)
    with browser(tmp_path, settings_for(tmp_path, **FEW)) as opened:
        yield opened


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A project in which backfills have made everything, a copy of it, and what there was to make."""
    root = tmp_path_factory.mktemp("everything")
    Project(root / "project")
    with browser(root / "project", settings_for(root / "project", **FEW)) as opened:
        missing = assert_marks_are_the_plan(opened, root / "project")
        make_all(opened, root / "project")
    shutil.copytree(root / "project", root / "copy")
    return root / "project", root / "copy", missing


@pytest.fixture
def made(everything):
    """The finished project, whatever the test before has done to it."""
    root, copy, _ = everything
    shutil.rmtree(root)
    shutil.copytree(copy, root)
    with browser(root, settings_for(root, **FEW)) as opened:
        yield opened, root


def versions(ui: Browser, asset: str, partition: str) -> list[str]:
    return [event.tags["dagster/data_version"] for event in ui.events(asset, partition)]


def stored(root, asset: str, partition: str) -> str:
    return data_version(open_store(settings_for(root)).require(asset, partition))


def make_all(ui: Browser, root, **changes) -> None:
    for key, asset in build_graph(settings_for(root, **FEW | changes)).items():
        if asset.dimensions:
            assert ui.backfill([key], asset.partitions) == "COMPLETED_SUCCESS", key
        else:
            assert ui.materialize(key).is_success, key


def assert_marks_are_the_plan(ui: Browser, root, **changes) -> set[tuple[str, str]]:
    settings = settings_for(root, **FEW | changes)
    graph = build_graph(settings)
    planned = {
        (item.asset, item.partition): item.reason
        for item in plan(list(graph.values()), open_store(settings).manifest)
        if item.certain
    }
    marks = {
        (key, part): mark for key, asset in graph.items() for part, mark in ui.stale(key, asset.partitions).items()
    }
    assert {ref for ref, mark in marks.items() if mark != "FRESH"} == set(planned)
    assert {ref for ref, mark in marks.items() if mark == "MISSING"} == {
        ref for ref, reason in planned.items() if reason == "missing"
    }
    return set(planned)


def test_backfills_and_marks(made, everything):
    ui, root = made
    assert assert_marks_are_the_plan(ui, root) == set()
    for asset, partition in everything[-1]:
        assert versions(ui, asset, partition) == [stored(root, asset, partition)], (asset, partition)

    changed = {"selection": {"min_area": 700, "k": 3}}
    ui.edit(settings_for(root, **FEW | changed))
    ui.reload()
    stale = assert_marks_are_the_plan(ui, root, **changed)
    assert {asset for asset, _ in stale} == {"selected_instances"}
    assert ui.backfill(["selected_instances"], ["ashford|car"]) == "COMPLETED_SUCCESS"
    stale = assert_marks_are_the_plan(ui, root, **changed)
    assert ("zoom_crop/is_cityscapes", "ashford|car") in stale
    assert ("zoom_crop/is_cityscapes", "birchley|car") not in stale
    make_all(ui, root, **changed)
    assert assert_marks_are_the_plan(ui, root, **changed) == set()

    ui.edit(settings_for(root, **FEW))
    ui.reload()
    stale = assert_marks_are_the_plan(ui, root)
    assert {asset for asset, _ in stale} == {"selected_instances"}


def test_materialize_of_what_is_up_to_date_tells_again_what_was_true_when_it_was_made(made):
    ui, _ = made
    before = ui.events("selected_instances", "ashford|car")[0]
    assert "preview" in before.metadata
    run = ui.materialize("selected_instances", partition="ashford|car")
    assert run.is_success
    again = ui.events("selected_instances", "ashford|car")[0]
    assert again.metadata == before.metadata
    check = dg.AssetCheckKey(dg.AssetKey("selected_instances"), "only_train_frames")
    outcome = ui.instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check]
    assert outcome.run_id == run.run_id
    assert outcome.status.value == "SUCCEEDED"
    assert any("up to date; made at" in entry.message for entry in ui.instance.all_logs(run.run_id))


def test_a_range_that_fails_in_its_middle_records_what_is_stored(ui, tmp_path):
    victim = next((tmp_path / "data").rglob("birchley*_leftImg8bit.png"))
    whole = victim.read_bytes()
    victim.write_bytes(whole[:100])
    run = ui.materialize("frames", "instances", partition="ashford", last="valdale")
    assert not run.is_success
    assert versions(ui, "frames", "ashford") == [stored(tmp_path, "frames", "ashford")]
    for asset, partition in (("frames", "birchley"), ("frames", "valdale"), ("instances", "ashford")):
        assert versions(ui, asset, partition) == []
    victim.write_bytes(whole)
    run = ui.materialize("frames", "instances", partition="ashford", last="valdale")
    assert run.is_success
    for asset in ("frames", "instances"):
        for partition in ("ashford", "birchley", "valdale"):
            told = ui.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            told = [entry for entry in told if entry.dagster_event.asset_key == dg.AssetKey(asset)]
            assert [entry.dagster_event.partition for entry in told].count(partition) == 1
            assert versions(ui, asset, partition)[0] == stored(tmp_path, asset, partition)


def test_what_the_store_holds_and_dagster_does_not_know_is_told_by_the_next_run(ui, tmp_path):
    project = Project(tmp_path)
    project.refresh(**FEW)  # with an instance of its own
    assert ui.events("frames", "birchley") == []
    assert ui.materialize("instances", partition="ashford").is_success
    for partition in ("ashford", "birchley", "valdale"):
        assert versions(ui, "frames", partition) == [stored(tmp_path, "frames", partition)]
        assert versions(ui, "instances", partition) == [stored(tmp_path, "instances", partition)]
    assert ui.launch("refresh").is_success
    assert (tmp_path / "results/costs.md").exists()
    assert assert_marks_are_the_plan(ui, tmp_path) == set()


def test_a_partition_that_is_lost_and_made_again_stays_one_fact(made):
    ui, root = made
    (open_store(settings_for(root)).directory("frames", "ashford") / MANIFEST).unlink()
    assert ui.materialize("frames", partition="ashford").is_success
    assert len(set(versions(ui, "frames", "ashford"))) == 1
    assert assert_marks_are_the_plan(ui, root) == set()


def test_a_cancelled_backfill_ends_as_that_and_the_next_one_makes_everything(ui, tmp_path):
    cities = ("ashford", "birchley", "valdale")
    started = ui.launch_backfill(["frames"], cities)
    ui.cancel_backfill(started)
    assert ui.end_of_backfill(started) == "CANCELED"
    assert [versions(ui, "frames", city) for city in cities] == [[], [], []]
    assert ui.backfill(["frames"], cities) == "COMPLETED_SUCCESS"
    for city in cities:
        assert versions(ui, "frames", city) == [stored(tmp_path, "frames", city)]
