"""The Celery app of a worker machine: `celery -A jobs.workers.celery_app worker -Q gpu --concurrency 1`.

Broker and result backend are those of the run launcher in `$DAGSTER_HOME/dagster.yaml`. A run's message is acknowledged
when the run is finished, so that a worker that dies returns it to the broker.
"""

from __future__ import annotations

import ctypes
import signal
from typing import Any

import dagster as dg
from celery import Celery
from celery.signals import task_prerun, worker_process_init
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task

# libraries of runs are imported once, before their processes are forked; assets import model libraries late
import instsynth_dagster.refinement.features
import instsynth_dagster.synthesis.generators.pipeline  # noqa: F401  diffusers
import jobs.launch  # noqa: F401
from jobs.workers.celery_launcher import QueueRunLauncher
from jobs.workers.dagster_internals import run_of_task

WORKER = "instsynth/worker"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_LATE = {"acks_late": True, "reject_on_worker_lost": True}


def build_app() -> Celery:
    """The launcher's app, with its tasks and the worker options that this project relies on."""
    with dg.DagsterInstance.get() as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, QueueRunLauncher), "dagster.yaml names no QueueRunLauncher"
        app = make_app(launcher.app_args())
    app.conf.update(
        worker_max_tasks_per_child=1,  # each run reads the current params file, and releases the GPU
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=True,  # the broker gives their messages to other workers
        broker_connection_retry_on_startup=True,
    )
    create_execute_job_task(app, **_LATE)
    create_resume_job_task(app, **_LATE)
    return app


@worker_process_init.connect
def _end_with_worker(**_: Any) -> None:
    """End a run whose worker was killed, because another worker gets it."""
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


@task_prerun.connect
def _tag_run_with_worker(task: Any, kwargs: Any, **_: Any) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.add_run_tags(run_of_task(kwargs), {WORKER: task.request.hostname})


app = build_app()
