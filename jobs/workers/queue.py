"""Workers of a refresh behind the queue of a Dagster instance, from which any machine may take runs."""

from __future__ import annotations

import time
from collections.abc import Collection
from urllib.parse import urlsplit

import dagster as dg

from assets.shared.partitions import asset_key, partition_tags
from instsynth_dagster.graph.staleness import Asset
from jobs.console import cause
from jobs.workers.dagster_internals import ASSET_JOB, REPLACEMENT, RETRY_STRATEGY, WILL_RETRY
from jobs.workers.routing import RoutedRunCoordinator
from jobs.workers.runs import QUIET, refresh_tag

ASSET = "instsynth/asset"
"""Tag that names the asset of a run."""

_EVERY = 1.0
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
"""Seconds between the attempts to reach a web server that is being restarted."""
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class RunQueue:
    """Queues runs through the web server of the instance in which the refresh itself runs."""

    def __init__(self, context: dg.OpExecutionContext, on_device: Collection[str]) -> None:
        """A queue for the refresh in the op `context`; `on_device` are the assets that need the accelerator."""
        from dagster_graphql import DagsterGraphQLClient  # half a second that only clusters pay

        coordinator = context.instance.run_coordinator
        assert isinstance(coordinator, RoutedRunCoordinator)
        self._coordinator, self._instance, self._tags = coordinator, context.instance, refresh_tag(context.run_id)
        self._on_device = on_device
        url = urlsplit(coordinator.webserver)
        self._client = DagsterGraphQLClient(
            url.hostname or "",
            port_number=url.port,
            use_https=url.scheme == "https",
            path_prefix=url.path.rstrip("/"),
        )
        self.runs_per_asset = coordinator.runs_per_asset

    def has_room(self, asset: Asset) -> bool:
        return True

    def submit(self, asset: Asset, first: str, last: str) -> str:
        tags = {
            **partition_tags(first, last),
            **self._coordinator.tags(asset.key in self._on_device),
            ASSET: asset.key,
            RETRY_STRATEGY: "ALL_STEPS",
            **self._tags,
        }
        from dagster_graphql import DagsterGraphQLClientError

        for wait in (*_WAITS, None):
            try:
                return self._client.submit_job_execution(
                    ASSET_JOB, run_config=QUIET, tags=tags, asset_selection=[asset_key(asset.key)]
                )
            except DagsterGraphQLClientError as error:
                if wait is None or not isinstance(error.__cause__, OSError):
                    raise dg.Failure(
                        description=f"{asset.key}: the web server at {self._coordinator.webserver} takes no run: "
                        f"{' '.join(str(error.__cause__ or error).split())}",
                        allow_retries=False,
                    ) from error
                time.sleep(wait)
        raise AssertionError

    def unfinished(self, asset: Asset) -> list[str]:
        runs = self._instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED, tags={ASSET: asset.key}))
        return [run.run_id for run in runs]

    def outcome(self, run: str) -> str | None:
        found = self._instance.get_run_by_id(run)
        if found is None or found.status == dg.DagsterRunStatus.CANCELED:
            return f"run {run[:8]} was {'canceled' if found else 'deleted'}"
        if found.status == dg.DagsterRunStatus.SUCCESS:
            return ""
        if found.status != dg.DagsterRunStatus.FAILURE:
            return None
        if found.tags.get(WILL_RETRY) == "true":
            replacement = found.tags.get(REPLACEMENT)
            return self.outcome(replacement) if replacement else None
        return self._cause(run)

    def wait(self) -> None:
        time.sleep(_EVERY)

    def _cause(self, run: str) -> str:
        for record in self._instance.all_logs(run):
            event = record.dagster_event
            if event and (reason := cause(event)):
                return reason if event.is_step_failure else f"run {run[:8]}: {reason}"
        return f"run {run[:8]} failed outside its step"
