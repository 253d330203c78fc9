"""Plan, schedule, sensor, retries, leftovers and results."""

from __future__ import annotations

import errno
import subprocess
import sys
from dataclasses import replace

import dagster as dg
import pytest

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.doctor.estimate import Work
from instsynth_dagster.errors import SettingsError, is_transient
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import NightlySettings
from jobs.console import cause
from jobs.launch import REFRESHING, build_jobs
from jobs.nightly import build_schedule, build_sensor
from jobs.planning import describe, lines, planned_assets
from jobs.refresh import refresh
from jobs.verify import damaged
from jobs.workers.orphans import HOST, PROCESS, fail_orphaned_runs, process_tags
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.assets.test_graph import Project, settings_for, write_city
from tests.instances import empty_instance


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def planned(project, **changes):
    settings = settings_for(project.root, **changes)
    return planned_assets(build_graph(settings), open_store(settings))


@pytest.mark.slow
def test_the_plan_says_what_why_and_how_long(project, bring_up_to_date):
    first = {item.asset: item for item in planned(project)}
    assert first["frames"].certain == 3
    assert first["frames"].seconds is None
    assert "never made before, so not counted" in list(describe(list(first.values())))[-1]
    bring_up_to_date(project)
    assert planned(project) == []
    assert list(describe([])) == ["nothing is stale"]
    made = {item.asset: item for item in planned(project, selection={"min_area": 50, "k": 1})}
    assert made["selected_instances"].reasons == {"settings changed": 8}
    wall = [
        project.store.manifest("selected_instances", key).wall_seconds
        for key in project.graph["selected_instances"].partitions
    ]
    assert made["selected_instances"].seconds == pytest.approx(sum(wall))
    assert not made["selected_instances"].assumed
    assert (made["zoom_crop/is_cityscapes"].certain, made["zoom_crop/is_cityscapes"].possible) == (0, 8)
    assert made["zoom_crop/is_cityscapes"].at_most > made["zoom_crop/is_cityscapes"].seconds == 0
    text = "\n".join(describe(list(made.values())))
    assert "up to" in text.splitlines()[-1]
    assert "8 because settings changed" in text
    assert "if its inputs change" in text


def test_a_partition_is_counted_with_its_own_time_and_a_new_one_with_the_longest(tmp_path):
    store = Store(tmp_path)
    for partition, seconds in (("a", 1.0), ("b", 5.0)):
        with store.write("x", partition, "0" * 64):
            pass
        path = store.directory("x", partition) / "manifest.json"
        manifest = replace(Manifest.from_json(path.read_bytes()), wall_seconds=seconds)
        path.write_bytes(manifest.to_json())
    asset = Asset("x", "1", {"city": ("a", "b", "c")}, lambda _: {}, lambda _: ())
    (item,) = planned_assets({"x": asset}, store)
    assert item.seconds == item.at_most == 1 + 5 + 5


def test_what_was_never_made_is_counted_by_what_is_known_of_the_device(tmp_path):
    works = [
        Work("generators.g", "repaintings", 40, 2.0, measured=True),
        Work("segmenters.s", "trainings", 2, 300.0, measured=False),
    ]
    crops = Asset("g/inpainted_crops", "1", {"city": ("a", "b", "c", "d")}, lambda _: {}, lambda _: ())
    runs = Asset("trained_segmenters", "1", {"run": ("x", "y"), "segmenter": ("s",)}, lambda _: {}, lambda _: ())
    found = planned_assets({asset.key: asset for asset in (crops, runs)}, Store(tmp_path), works)
    assert [(item.seconds, item.at_most, item.assumed) for item in found] == [(80, 80, True), (600, 600, True)]
    *_, total, last = describe(found)
    assert total.startswith("up to 0:11:20: ")
    assert last.endswith("known of the device: g/inpainted_crops, trained_segmenters")


@pytest.mark.slow
def test_verifying_names_what_a_refresh_makes_again(project, bring_up_to_date):
    bring_up_to_date(project)
    store, graph = project.store, build_graph(settings_for(project.root))
    assert damaged(graph, store) == []
    part = next(store.directory("selected_instances", "ashford|car").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-1])
    manifest = store.directory("frames", "ashford") / "manifest.json"
    manifest.write_text("{")
    lines = damaged(graph, store)
    assert [line.split(": damaged")[0] for line in lines] == [str(manifest), str(part)]
    assert {"frames", "selected_instances"} <= {item.asset for item in planned(project) if item.certain}
    settings = settings_for(project.root)
    with empty_instance() as instance:
        workers = InThisProcess(build_assets(graph), build_resources(settings), instance)
        refresh(graph, store, workers, lambda _: None)
    assert damaged(graph, store) == []


def tick(project, instance, **changes):
    schedule = build_schedule(NightlySettings(), lambda: settings_for(project.root, **changes))
    context = dg.build_schedule_context(instance=instance)
    return schedule.evaluate_tick(context)


@pytest.mark.slow
def test_the_night_runs_what_is_stale_and_skips_with_a_reason(project, tmp_path, bring_up_to_date):
    (tmp_path / "home").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "home")) as instance:
        (request,) = tick(project, instance).run_requests
        assert request.tags["instsynth/stale"] == str(len(project.partitions(build_graph(settings_for(project.root)))))
        assert request.tags["instsynth/first"] == "frames: missing"
        bring_up_to_date(project)
        assert tick(project, instance).skip_message.startswith("nothing is stale: ")
        (request,) = tick(project, instance, selection={"min_area": 50, "k": 1}).run_requests
        assert request.tags["instsynth/stale"] == "8"
        for name in REFRESHING:
            run = dg.DagsterRun(job_name=name, status=dg.DagsterRunStatus.STARTED)
            instance.add_run(run)
            skipped = tick(project, instance, selection={"min_area": 50, "k": 1})
            assert skipped.skip_message == f"{name} is running: run {run.run_id[:8]}"
            instance.report_run_canceled(run)
        assert {"refresh", "prepare", "export"} <= set(REFRESHING)
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        tags = process_tags() | {PROCESS: str(gone.pid)}
        instance.add_run(dg.DagsterRun(job_name="refresh", status=dg.DagsterRunStatus.STARTED, tags=tags))
        (request,) = tick(project, instance, selection={"min_area": 50, "k": 1}).run_requests
        assert request.tags["instsynth/stale"] == "8"


def test_a_params_file_that_cannot_be_read_skips_the_night():
    def broken():
        raise SettingsError("params.yaml: seed: not a number")

    with empty_instance() as instance:
        context = dg.build_schedule_context(instance=instance)
        assert (
            build_schedule(NightlySettings(), broken).evaluate_tick(context).skip_message
            == "params.yaml: seed: not a number"
        )


@pytest.mark.slow
def test_the_sensor_sees_a_new_frame_and_a_new_dvc_revision(project, bring_up_to_date):
    sensor = build_sensor(lambda: settings_for(project.root))
    with empty_instance() as instance:

        def look(cursor):
            return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))

        first = look(None)
        assert len(first.run_requests) == 1
        bring_up_to_date(project)
        assert look(first.cursor).skip_message == "the data set is unchanged since the last evaluation"
        write_city(project.root / "data", "ashford", "train", frames=3)
        second = look(first.cursor)
        assert len(second.run_requests) == 1
        project.refresh()
        (project.root / "data.dvc").write_text("outs:\n- md5: abc.dir\n  path: data\n")
        third = look(second.cursor)
        assert not third.run_requests
        assert third.skip_message.startswith("nothing is stale")
        assert third.cursor.startswith("abc.dir ")


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError(errno.EIO, "I/O error"), True),
        (OSError(errno.ENOSPC, "no space left"), False),
        (FileNotFoundError(2, "gone"), False),
        (ValueError(), False),
    ],
)
def test_only_what_may_pass_is_transient(error, transient):
    assert is_transient(error) is transient


def run_with_faults(project, monkeypatch, faults):
    """Refresh while the first reads of a city's frames fail with these errors."""
    monkeypatch.setattr("assets.shared.stored.RETRY_SECONDS", 0)
    original, waiting = CityscapesData.frame_table, list(faults)

    def flaky(dataset, city):
        if waiting:
            raise waiting.pop(0)
        return original(dataset, city)

    monkeypatch.setattr(CityscapesData, "frame_table", flaky)
    project.refresh()
    return waiting


@pytest.mark.slow
def test_a_transient_fault_is_tried_again_and_others_are_not(project, monkeypatch):
    faults = [OSError(errno.EIO, "I/O error"), TimeoutError("no answer")]
    assert run_with_faults(project, monkeypatch, faults) == []
    assert all(project.store.manifest("frames", city) for city in ("ashford", "birchley", "valdale"))


def test_a_full_disk_is_not_tried_again(project, monkeypatch):
    faults = [OSError(errno.ENOSPC, "no space left on device")] * 2
    with pytest.raises(dg.Failure, match=r"no space left on the disk; free some; finished work is kept"):
        run_with_faults(project, monkeypatch, faults)


@pytest.mark.slow
def test_killed_runs_are_marked_and_living_ones_are_left(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    tags = process_tags()
    with empty_instance() as instance:
        runs = {
            "killed": {HOST: tags[HOST], PROCESS: str(gone.pid)},
            "living": tags,
            "elsewhere": {HOST: "another machine", PROCESS: str(gone.pid)},
            "by the daemon": {},
        }
        for name, given in runs.items():
            instance.add_run(dg.DagsterRun(job_name=name, status=dg.DagsterRunStatus.STARTED, tags=given))
        assets = frozenset({dg.AssetKey(["zoom_crop", "is_cityscapes"])})
        about = {"status": dg.DagsterRunStatus.STARTED, "tags": runs["killed"], "asset_selection": assets}
        instance.add_run(dg.DagsterRun(job_name="killed", **about))
        said: list[str] = []
        assert fail_orphaned_runs(instance, said.append) == 2
        assert {text.partition(" of ")[2].split(" was ")[0] for text in said} == {"killed", "zoom_crop/is_cityscapes"}
        states = {run.job_name: run.status for run in instance.get_runs()}
        assert states.pop("killed") == dg.DagsterRunStatus.FAILURE
        assert set(states.values()) == {dg.DagsterRunStatus.STARTED}


@pytest.mark.slow
def test_a_job_runs_its_part_of_the_graph_and_carries_its_cost(project, monkeypatch):
    monkeypatch.chdir(project.root)
    settings = settings_for(project.root)
    graph, resources = build_graph(settings), build_resources(settings)
    jobs = {job.name: job for job in build_jobs(settings, graph, build_assets(graph), resources)}
    store = resources["store"]
    with empty_instance() as instance:
        assert jobs["prepare"].execute_in_process(instance=instance).success
        assert store.manifest("selected_instances", "ashford|car")
        assert store.manifest("zoom_crop/is_cityscapes", "ashford|car") is None
        result = jobs["synthesize"].execute_in_process(instance=instance)
        assert store.manifest("zoom_crop/export")
        tags = instance.get_run_by_id(result.run_id).tags
        assert int(tags["instsynth/partitions"]) == len(graph["zoom_crop/is_cityscapes"].partitions) + 1
        assert float(tags["instsynth/wall_seconds"]) > 0
        assert jobs["refresh"].execute_in_process(instance=instance).success
        workers = InThisProcess(build_assets(graph), resources, instance)
        assert refresh(graph, store, workers, lambda _: None).partitions == 0


def test_the_plan_ends_with_what_a_run_would_end_with(project):
    prompts = {"car": {"templates": ["a photo of a car"]}}
    judge = {"clip": str(project.root / "no-such-clip"), "fid_features": "clip"}
    settings = settings_for(project.root, classes=["car"], prompts=prompts, judge=judge)
    with pytest.raises(SettingsError, match=r"judge\.clip: .*no-such-clip: no such folder"):
        list(lines(settings))


@pytest.mark.slow
def test_a_reader_of_the_plan_may_leave_early():
    command = f"{sys.executable} -m jobs.planning | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_the_cause_of_an_unforeseen_failure_is_the_innermost_exception():
    def inner():
        try:
            raise KeyError("70")
        except KeyError as error:
            raise RuntimeError("around it") from error

    @dg.op
    def fails():
        inner()

    @dg.job
    def failing():
        fails()

    result = failing.execute_in_process(raise_on_error=False)
    assert [reason for event in result.all_events if (reason := cause(event))] == ["KeyError: '70'"]


def test_a_job_without_anything_to_make_says_what_the_params_file_lacks(project):
    settings = settings_for(project.root)
    graph, resources = build_graph(settings), build_resources(settings)
    (job,) = [job for job in build_jobs(settings, graph, [], resources) if job.name == "anonymise"]
    with empty_instance() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "the params file asks for no anonymised/export" in str(failed.event_specific_data)
