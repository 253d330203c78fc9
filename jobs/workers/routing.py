"""Routes of runs to machines: tags that the run coordinator adds, by the pool of the run's assets.

When `dagster.yaml` names it as the run coordinator, a refresh sends its partitions to workers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self, cast

import dagster as dg

ROUTE = "instsynth/route"
DEVICE, HOST, JOB = "gpu", "cpu", "jobs"
"""Routes: assets that need the accelerator, assets that do not, and jobs that wait for other runs."""


class RoutedRunCoordinator(dg.QueuedRunCoordinator):
    """Dagster's queued run coordinator, which also gives every run a route and the tags of that route.

    `routes` maps a route (`gpu`, `cpu`, `jobs`) to run tags, such as the Celery queue or the Kubernetes node pool.
    `webserver` is the URL at which a refresh submits its runs. `runs_per_asset` is the approximate number of runs into
    which it divides the stale partitions of one asset: twice the number of workers.
    """

    def __init__(
        self,
        routes: Mapping[str, Mapping[str, Any]],
        webserver: str,
        runs_per_asset: int,
        inst_data: Any = None,
        **queue: Any,
    ) -> None:
        super().__init__(inst_data=inst_data, **queue)
        self.webserver, self.runs_per_asset = webserver, runs_per_asset
        self._routes = {
            route: {key: _tag(value) for key, value in routes.get(route, {}).items()} for route in (DEVICE, HOST, JOB)
        }

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        routes = {route: dg.Field(dg.Permissive(), is_required=False) for route in (DEVICE, HOST, JOB)}
        return {
            **cast(dict[str, Any], super().config_type()),
            "routes": dg.Field(dg.Shape(routes)),
            "webserver": dg.Field(dg.StringSource, default_value="http://127.0.0.1:3000"),
            "runs_per_asset": dg.Field(int, default_value=8),
        }

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, **config_value)

    def submit_run(self, context: dg.SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        if ROUTE in run.tags:
            return super().submit_run(context)
        graph = context.workspace.asset_graph
        on_device = any(pool for key in run.asset_selection or () for pool in graph.get(key).pools or ())
        tags = self.tags(on_device) if run.asset_selection else self._tags(JOB)
        self._instance.add_run_tags(run.run_id, tags)
        tagged = self._instance.get_run_by_id(run.run_id)
        assert tagged
        return super().submit_run(context._replace(dagster_run=tagged))

    def tags(self, on_device: bool) -> dict[str, str]:
        """Tags of a run of assets."""
        return self._tags(DEVICE if on_device else HOST)

    def _tags(self, route: str) -> dict[str, str]:
        return {ROUTE: route, **self._routes[route]}


def _tag(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
