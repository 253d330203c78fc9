"""The entry point that Dagster loads: the settings' assets, resources and jobs."""

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
    """Everything a code location shows, for one params file; `read` reads that file anew."""
    graph = build_graph(settings)
    assets = build_assets(settings, graph)
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
    """A command that ends with a user's mistake says so in one line."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


try:
    defs = build_definitions(load_settings(), load_settings)
except UserError:
    sys.excepthook = _print_user_error  # of `dagster job execute`; the UI shows the error itself
    raise
