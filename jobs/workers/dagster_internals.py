"""The only module that uses what Dagster does not promise to keep; `tests/jobs/workers/test_dagster_internals.py` says
what to look for when Dagster moves any of it."""

from __future__ import annotations

from typing import Any

import dagster as dg

ASSET_JOB = "__ASSET_JOB"
"""The job that holds every asset of a code location; the UI's Materialize runs it too."""
WILL_RETRY, REPLACEMENT = "dagster/will_retry", "dagster/auto_retry_run_id"
"""Tags of a failed run that the daemon makes again, and the run that takes its place."""
RETRY_STRATEGY = "dagster/retry_strategy"


def free_pool_slots(instance: dg.DagsterInstance, run_id: str) -> None:
    """Give back what a run that will never end held of any pool; Dagster's daemon does so only after its own checks."""
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def set_pool_limit(instance: dg.DagsterInstance, pool: str, limit: int) -> None:
    """How many steps of a pool may be at work at once, as `dagster instance concurrency set` does."""
    instance.event_log_storage.set_concurrency_slots(pool, limit)


def run_of_task(arguments: dict[str, Any]) -> str:
    """The run that a Celery task of dagster-celery executes, from the keyword arguments of the task."""
    (packed,) = arguments.values()
    return packed["pipeline_run_id"]
