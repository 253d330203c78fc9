"""Runs of assets in the queue of a Dagster instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import dagster as dg
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, RETRY_STRATEGY_TAG, WILL_RETRY_TAG

from assets.shared.partitions import asset_key, partition_tags
from instsynth_dagster.graph.staleness import Asset
from jobs.refresh import QUIET
from jobs.routing import RoutedRunCoordinator

ASSET = "instsynth/asset"
"""Tag that names the asset of a run."""

_ASSET_JOB = "__ASSET_JOB"
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class RunQueue:
    """Queues runs beside the run that walks the graph, in the same code location."""

    def __init__(self, context: dg.OpExecutionContext, assets: Sequence[dg.AssetsDefinition]) -> None:
        coordinator = context.instance.run_coordinator
        assert isinstance(coordinator, RoutedRunCoordinator)
        self._coordinator, self._instance, self._run = coordinator, context.instance, context.run
        self._job = context.repository_def.get_implicit_global_asset_job_def()
        self._pools = {definition.key: [definition.op.pool or ""] for definition in assets}
        self.runs_per_asset = coordinator.runs_per_asset

    def submit(self, asset: Asset, first: str, last: str) -> str:
        walker, code = self._run.remote_job_origin, self._run.job_code_origin
        if walker is None or code is None:
            raise dg.Failure(
                description="a job that sends runs to workers must itself be queued: `dagster job launch -w "
                "workspace.yaml -j JOB`, or the UI, in place of `dagster job execute`",
                allow_retries=False,
            )
        key = asset_key(asset.key)
        run = self._instance.create_run_for_job(
            job_def=self._job,
            asset_selection={key},
            run_config=QUIET,
            tags={
                **partition_tags(first, last),
                **self._coordinator.tags(self._pools[key]),
                ASSET: asset.key,
                RETRY_STRATEGY_TAG: "ALL_STEPS",
            },
            remote_job_origin=walker.repository_origin.get_job_origin(_ASSET_JOB),
            job_code_origin=code.repository_origin.get_job_origin(_ASSET_JOB),
        )
        # a run that has its route needs no workspace to find it
        self._coordinator.submit_run(SubmitRunContext(run, cast(Any, None)))
        return run.run_id

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
        if found.tags.get(WILL_RETRY_TAG) == "true":
            replacement = found.tags.get(AUTO_RETRY_RUN_ID_TAG)
            return self.outcome(replacement) if replacement else None
        return self._cause(run)

    def _cause(self, run: str) -> str:
        for record in self._instance.all_logs(run):
            event = record.dagster_event
            if event is None:
                continue
            failure = event.step_failure_data if event.is_step_failure else None
            if failure and failure.user_failure_data and failure.user_failure_data.description:
                return failure.user_failure_data.description
            error = failure.error if failure else event.is_engine_event and event.engine_event_data.error
            if error:
                return f"run {run[:8]}: {error.to_string()}"
        return f"run {run[:8]} failed outside its step"
