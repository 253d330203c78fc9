"""Automatic refreshes: every night, and when the data set has changed."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from assets import build_graph
from instsynth_dagster.artifacts.locking import dvc_at_work
from instsynth_dagster.artifacts.store import open_store
from instsynth_dagster.data.versions import dvc_revision
from instsynth_dagster.errors import SettingsError, UserError
from instsynth_dagster.graph import data_signature
from instsynth_dagster.settings import NightlySettings, Settings
from jobs.launch import REFRESHING
from jobs.planning import planned_assets
from jobs.workers.orphans import fail_orphaned_runs

AT_WORK = "is running"
_POLL_SECONDS = 60
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


def build_schedule(nightly: NightlySettings, read: Callable[[], Settings]) -> dg.ScheduleDefinition:
    """The schedule `nightly`, which refreshes stale partitions; it skips with the reason where there is nothing to do.

    `read` reads the settings anew at every tick: a process that has run for weeks must see an edited params file, as
    the process of the run will.

    Raises:
        SettingsError: the cron expression is invalid.
    """

    def nightly_refresh(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            return requested(read(), context.instance)
        except UserError as error:
            return dg.SkipReason(str(error))

    try:
        return dg.schedule(
            name="nightly",
            job_name="refresh",
            cron_schedule=nightly.cron,
            execution_timezone=nightly.time_zone,
            description="Refreshes stale partitions every night; skips where nothing is stale.",
        )(nightly_refresh)
    except dg.DagsterInvalidDefinitionError:
        raise SettingsError(f"nightly.cron: {nightly.cron!r} is not understood; write e.g. '0 2 * * *'") from None


def build_sensor(read: Callable[[], Settings]) -> dg.SensorDefinition:
    """The sensor `new_data_version`, which refreshes when files of the data set, or DVC's record of it, have
    changed.
    """

    @dg.sensor(
        name="new_data_version",
        job_name="refresh",
        minimum_interval_seconds=_POLL_SECONDS,
        description="Watches the files of the data set and its .dvc file.",
    )
    def new_data_version(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            settings = read()
            version = f"{dvc_revision(settings.dataset.root)} {data_signature(settings)}"
            if version == context.cursor:
                return dg.SkipReason("the data set is unchanged since the last evaluation")
            found = requested(settings, context.instance)
        except UserError as error:
            return dg.SkipReason(str(error))
        if isinstance(found, dg.RunRequest):
            return dg.SensorResult(run_requests=[found], cursor=version)
        if AT_WORK in (found.skip_message or ""):
            return found  # evaluate again, with the old cursor
        return dg.SensorResult(skip_reason=found, cursor=version)

    return new_data_version


def requested(settings: Settings, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """A run request for stale partitions, or the reason for none."""
    graph = build_graph(settings)
    if holder := dvc_at_work(Path.cwd()):
        return dg.SkipReason(f"DVC {AT_WORK}: {holder}")
    fail_orphaned_runs(instance, print)  # a killed run would count as running for ever
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=_UNFINISHED))
    if busy := [run for run in runs if run.job_name in REFRESHING]:
        return dg.SkipReason(f"{busy[0].job_name} {AT_WORK}: run {busy[0].run_id[:8]}")
    planned = [item for item in planned_assets(graph, open_store(settings)) if item.certain]
    if not planned:
        partitions = sum(len(asset.partitions) for asset in graph.values())
        return dg.SkipReason(f"nothing is stale: {partitions} partitions of {len(graph)} assets are up to date")
    stale = sum(item.certain for item in planned)
    first = planned[0]
    why = next(iter(first.reasons))
    return dg.RunRequest(tags={"instsynth/stale": str(stale), "instsynth/first": f"{first.asset}: {why}"})
