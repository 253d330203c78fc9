"""Runs whose process was killed, which Dagster would count as running for ever, with their place in the pool."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import dagster as dg

from instsynth_dagster.artifacts.locking import is_alive
from jobs.workers.dagster_internals import free_pool_slots

PROCESS, HOST = ".dagster/instsynth_process", ".dagster/instsynth_host"
"""Tags of a run with its process and host; the UI hides tags with this prefix."""


def process_tags() -> dict[str, str]:
    """Tags that identify the process and host of a run."""
    return {PROCESS: str(os.getpid()), HOST: platform.node()}


def fail_orphaned_runs(instance: dg.DagsterInstance, log: Callable[[str], None]) -> int:
    """Mark runs of this machine whose process is gone as failed, and free their pool slots. Returns their number."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={HOST: platform.node()})
    orphans = [run for run in instance.get_runs(filters=started) if not is_alive(int(run.tags[PROCESS]))]
    for run in orphans:
        instance.report_run_failed(run, message=f"process {run.tags[PROCESS]} was killed")
        free_pool_slots(instance, run.run_id)
        assets = sorted(key.to_user_string() for key in run.asset_selection or ())
        what = ", ".join(assets) or run.job_name
        log(f"run {run.run_id[:8]} of {what} was killed; it is marked as failed")
    return len(orphans)
