"""The only module that uses internals of Dagster; `tests/jobs/workers/test_dagster_internals.py` says what to look for
when Dagster changes any of them.
"""

from __future__ import annotations

import os
from typing import Any

import dagster as dg
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

LOCATION = "instsynth_dagster.definitions"
"""The code location, named after its module as `workspace.yaml` has it."""
ASSET_JOB = "__ASSET_JOB"
"""The job that holds every asset of a code location; the UI's Materialize runs it too."""
WILL_RETRY, REPLACEMENT = "dagster/will_retry", "dagster/auto_retry_run_id"
"""Tags of a failed run that the daemon will retry, and of the run that replaces it."""
RETRY_STRATEGY = "dagster/retry_strategy"


def reference_of(instance: dg.DagsterInstance) -> Any:
    """A picklable reference by which another process of this machine opens the same instance."""
    return instance.get_ref()


def instance_of(reference: Any) -> dg.DagsterInstance:
    """The instance of a `reference_of`, as a context manager."""
    return dg.DagsterInstance.from_ref(reference)


def free_pool_slots(instance: dg.DagsterInstance, run_id: str) -> None:
    """Release the pool slots of a run that will never end; Dagster's daemon does so only after its own checks."""
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def set_pool_limit(instance: dg.DagsterInstance, pool: str, limit: int) -> None:
    """Set the number of steps of a pool that may run concurrently, as `dagster instance concurrency set` does."""
    instance.event_log_storage.set_concurrency_slots(pool, limit)


def show_in_timeline(instance: dg.DagsterInstance, run_id: str) -> None:
    """Make a run that a command started count as one of the code location in `workspace.yaml`, like runs started by the
    UI or the daemon: the UI's timeline and its lists of a job's runs show no others.
    """
    run = instance.get_run_by_id(run_id)
    if run is None or run.remote_job_origin is not None:
        return
    module = LoadableTargetOrigin(module_name=LOCATION, working_directory=os.getcwd())
    location = ManagedGrpcPythonEnvCodeLocationOrigin(module, LOCATION)
    origin = RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME)
    instance.add_run_tags(run_id, {REPOSITORY_LABEL_TAG: origin.get_label()})
    tagged = instance.get_run_by_id(run_id)
    assert tagged
    instance.run_storage.replace_job_origin(tagged, origin.get_job_origin(run.job_name))


def run_of_task(arguments: dict[str, Any]) -> str:
    """The run that a Celery task of dagster-celery executes, from the task's keyword arguments."""
    (packed,) = arguments.values()
    return packed["pipeline_run_id"]
