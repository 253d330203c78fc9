"""Runs of one asset in this process, with their own events in the instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from assets.shared.partitions import asset_key, partition_tags
from instsynth_dagster.graph.staleness import Asset
from jobs.console import cause
from jobs.workers.dagster_internals import ASSET_JOB
from jobs.workers.orphans import process_tags

REFRESH = "instsynth/refresh"
"""Tag of a refresh and of all its runs: the first characters of its id, as the UI shows it. A click on it in the list
of runs leaves those of one refresh. Dagster's own tags of parent and root would call them re-executions, and would
count them as tries of one run."""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def refresh_tag(run_id: str) -> dict[str, str]:
    """The tag of the runs of a refresh."""
    return {REFRESH: run_id[:8]}


class AssetRuns:
    """Executes runs of assets in this process; loaded resources stay loaded for later runs.

    A run is recorded like those of the UI's Materialize: lists of runs show its asset, with a link to it.
    """

    def __init__(
        self,
        definitions: Sequence[dg.AssetsDefinition],
        resources: Mapping[str, Any],
        instance: dg.DagsterInstance,
        tags: Mapping[str, str],
    ) -> None:
        """Runs with these resources; `tags` are put on every run."""
        self._job = dg.Definitions(assets=definitions, resources=resources).resolve_job_def(ASSET_JOB)
        self._instance, self._tags = instance, tags

    def make(self, key: str, first: str, last: str) -> str:
        """Run the partitions from `first` to `last`; returns "" or the reason why it failed."""
        result = self._job.execute_in_process(
            instance=self._instance,
            asset_selection=[asset_key(key)],
            tags={**partition_tags(first, last), **self._tags, **process_tags()},
            run_config=QUIET,
            raise_on_error=False,
        )
        return "" if result.success else _cause(result)


class InThisProcess:
    """Workers of a refresh that are this process itself: a run is finished when it is submitted."""

    runs_per_asset = 1

    def __init__(
        self,
        definitions: Sequence[dg.AssetsDefinition],
        resources: Mapping[str, Any],
        instance: dg.DagsterInstance,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._runs = AssetRuns(definitions, resources, instance, tags or {})
        self._outcomes: list[str] = []
        self._reported = True

    def has_room(self, asset: Asset) -> bool:
        return self._reported  # nothing starts after a failure whose outcome has not been collected yet

    def submit(self, asset: Asset, first: str, last: str) -> str:
        self._reported = False
        self._outcomes.append(self._runs.make(asset.key, first, last))
        return str(len(self._outcomes) - 1)

    def unfinished(self, asset: Asset) -> list[str]:
        return []

    def outcome(self, run: str) -> str:
        self._reported = True
        return self._outcomes[int(run)]

    def wait(self) -> None:
        """Nothing to wait for."""


def _cause(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure and (reason := cause(event)):
            return reason
    return "run failed"
