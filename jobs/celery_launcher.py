"""Runs as tasks of Celery: the broker keeps a run's message until the run is over."""

from __future__ import annotations

from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG


class QueueRunLauncher(CeleryRunLauncher):
    """dagster-celery's run launcher; a terminated run is reported as canceled, which its killed process cannot do."""

    def terminate(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or DAGSTER_CELERY_TASK_ID_TAG not in run.tags:
            return False
        self._instance.report_run_canceling(run)
        self.celery.control.revoke(run.tags[DAGSTER_CELERY_TASK_ID_TAG], terminate=True, signal="SIGKILL")
        self._instance.report_run_canceled(run)
        return True
