"""The entry point that Dagster loads: assets, resources and jobs for the settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

import dagster as dg

from assets import build_assets, build_graph
from instsynth_dagster.errors import UserError
from instsynth_dagster.settings import Settings, load_settings
from jobs.launch import build_jobs
from jobs.nightly import build_schedule, build_sensor
from resources import build_resources
from resources.described import described


def build_definitions(settings: Settings, read: Callable[[], Settings]) -> dg.Definitions:
    """The Dagster definitions of a params file; `read` reads that file again."""
    graph = build_graph(settings)
    assets = build_assets(graph)
    resources = build_resources(settings)
    return dg.Definitions(
        assets=assets,
        resources=described(resources, settings),
        jobs=build_jobs(settings, graph, assets, resources),
        schedules=[build_schedule(settings.nightly, read)],
        sensors=[build_sensor(read)],
        executor=dg.in_process_executor,
    )


def _print_user_error(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Print a user's mistake in one line when a command ends with it."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


try:
    defs = build_definitions(load_settings(), load_settings)
except UserError:
    sys.excepthook = _print_user_error  # for `dagster job execute`; the UI shows the error itself
    raise
