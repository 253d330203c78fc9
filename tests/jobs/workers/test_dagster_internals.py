"""What this project uses of Dagster without Dagster's promise: each test says what to do when it fails."""

from __future__ import annotations

import pickle

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.storage import tags

from jobs.workers import dagster_internals
from tests.settings.test_settings import ROOT

MOVED = "Dagster has moved this; adapt jobs/workers/dagster_internals.py"


def test_names_are_those_of_this_dagster():
    assert dagster_internals.ASSET_JOB == IMPLICIT_ASSET_JOB_NAME, MOVED
    assert dagster_internals.WILL_RETRY == tags.WILL_RETRY_TAG, MOVED
    assert dagster_internals.REPLACEMENT == tags.AUTO_RETRY_RUN_ID_TAG, MOVED
    assert dagster_internals.RETRY_STRATEGY == tags.RETRY_STRATEGY_TAG, MOVED


@pytest.mark.slow
def test_another_process_opens_the_instance_that_it_is_told_of(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = dg.DagsterRun(job_name="told")
        instance.add_run(run)
        try:
            told = pickle.loads(pickle.dumps(dagster_internals.reference_of(instance)))
            with dagster_internals.instance_of(told) as opened:
                assert opened.get_run_by_id(run.run_id).job_name == "told"
        except AttributeError as error:
            pytest.fail(f"{MOVED}: {error}")


@pytest.mark.slow
def test_a_pool_has_the_limit_that_was_set_and_gets_back_what_a_run_held(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        try:
            dagster_internals.set_pool_limit(instance, "device", 1)
            storage = instance.event_log_storage
            assert storage.claim_concurrency_slot("device", "dead", "step").is_claimed
            assert not storage.claim_concurrency_slot("device", "next", "step").is_claimed
            dagster_internals.free_pool_slots(instance, "dead")
            assert storage.claim_concurrency_slot("device", "next", "step").is_claimed
        except AttributeError as error:
            pytest.fail(f"{MOVED}: {error}")


@pytest.mark.slow
def test_a_run_that_a_command_began_is_one_of_the_code_location(tmp_path):
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    (location,) = [entry["python_module"]["module_name"] for entry in workspace["load_from"]]
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        @dg.op
        def shows(context):
            try:
                dagster_internals.show_in_timeline(context.instance, context.run_id)
            except (AttributeError, TypeError) as error:
                pytest.fail(f"{MOVED}: {error}")

        @dg.job(tags={"own": "tag"})
        def shown():
            shows()

        result = shown.execute_in_process(instance=instance)
        (run,) = instance.get_runs(dg.RunsFilter(tags={tags.REPOSITORY_LABEL_TAG: f"__repository__@{location}"}))
        assert run.run_id == result.run_id
        assert run.tags["own"] == "tag"
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.remote_job_origin.job_name == "shown"
        assert run.remote_job_origin.location_name == location
        dagster_internals.show_in_timeline(instance, run.run_id)
        assert instance.get_run_by_id(run.run_id).remote_job_origin == run.remote_job_origin


def test_a_task_of_celery_names_its_run():
    """As dagster-celery's launcher packs what it sends."""
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
    from dagster._grpc.types import ExecuteRunArgs, ResumeRunArgs
    from dagster._serdes import pack_value

    repository = RepositoryPythonOrigin("python", ModuleCodePointer("module", "defs"))
    for kind, name in ((ExecuteRunArgs, "execute_job_args_packed"), (ResumeRunArgs, "resume_job_args_packed")):
        packed = pack_value(kind(JobPythonOrigin("refresh", repository), "abc", None))
        assert dagster_internals.run_of_task({name: packed}) == "abc", MOVED


def test_no_other_module_names_internals_of_dagster():
    folders = ("instsynth_dagster", "resources", "assets", "jobs")
    named = {path for folder in folders for path in (ROOT / folder).rglob("*.py") if "dagster._" in path.read_text()}
    assert named == {ROOT / "jobs/workers/dagster_internals.py"}
