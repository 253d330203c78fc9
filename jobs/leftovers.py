"""Runs whose process was killed: Dagster would call them running for ever and keep their place in the pool."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable

import dagster as dg

from instsynth_dagster.artifacts.locking import is_alive

PROCESS, HOST = "instsynth/process", "instsynth/host"


def process_tags() -> dict[str, str]:
    """Tags that tell later which process a run belongs to."""
    return {PROCESS: str(os.getpid()), HOST: platform.node()}


def bury_dead_runs(instance: dg.DagsterInstance, say: Callable[[str], None]) -> int:
    """Mark runs of this machine whose process is gone as failed, and free what they held. Returns their number."""
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED], tags={HOST: platform.node()})
    dead = [run for run in instance.get_runs(filters=started) if not is_alive(int(run.tags[PROCESS]))]
    for run in dead:
        instance.report_run_failed(run, message=f"process {run.tags[PROCESS]} was killed")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        say(f"run {run.run_id[:8]} of {run.job_name} was killed; it is marked as failed")
    return len(dead)
