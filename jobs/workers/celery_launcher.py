"""Runs as tasks of Celery: the broker keeps a run's message until the run is finished."""

from __future__ import annotations

from typing import Any

from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

_RETRY_POLICY = {"max_retries": 150, "interval_start": 0, "interval_step": 0.5, "interval_max": 2}
"""Retries for about five minutes, after which a run that cannot be sent to the broker counts as failed."""


class QueueRunLauncher(CeleryRunLauncher):
    """dagster-celery's run launcher, which also waits for a broker that is being restarted, and reports a terminated
    run as canceled, because its killed process cannot.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.celery.conf.task_publish_retry_policy = _RETRY_POLICY

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        self.celery.control.revoke(run.tags[DAGSTER_CELERY_TASK_ID_TAG], terminate=True, signal="SIGKILL")
        self._instance.report_run_canceled(run)
        return True
