"""The stale-only refresh: walks the graph, upstream first, and runs what is stale, many partitions in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from assets.shared.partitions import asset_key, partition_tags
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.graph.staleness import Asset, stale_partitions, stretches
from jobs.leftovers import bury_dead_runs, process_tags
from jobs.walking import Made, Refreshed, walk_until_whole

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def refresh(
    graph: Mapping[str, Asset],
    definitions: Sequence[dg.AssetsDefinition],
    resources: Mapping[str, Any],
    instance: dg.DagsterInstance,
    say: Callable[[str], None],
) -> Refreshed:
    """Materialise every stale partition of `graph`.

    Each asset is planned after everything above it is made, so an upstream partition that comes out with equal content
    stops the wave there. A file that is found damaged on the way is made again.

    Raises:
        dagster.Failure: naming the asset whose run failed; what was made before stays.
    """
    store: Store = resources["store"]

    def run(asset: Asset, first: str, last: str) -> None:
        _run(asset, first, last, definitions, resources, instance)

    def walk(made: Made) -> str:
        bury_dead_runs(instance, say)
        damaged = len(store.set_aside)
        try:
            _walk(graph, store, run, say, made)
        except dg.Failure as failure:
            if len(store.set_aside) == damaged:
                raise
            return str(failure.description)
        return ""

    return walk_until_whole(store, walk, say)


def _walk(
    graph: Mapping[str, Asset],
    store: Store,
    run: Callable[[Asset, str, str], None],
    say: Callable[[str], None],
    made: Made,
) -> None:
    """Run what is stale, upstream first; notes in `made` the device seconds of each partition."""
    manifest_of = store.snapshot()
    for position, asset in enumerate(graph.values(), 1):
        stale = stale_partitions(asset, manifest_of)
        if not stale:
            continue
        place = f"[{position}/{len(graph)}] {asset.key}"
        say(f"{place}: {len(stale)} of {len(asset.partitions)} partitions ({stale[0].reason})")
        begun = time.monotonic()
        for first, last in stretches(asset, [item.partition for item in stale]):
            run(asset, first, last)
        manifest_of.forget(asset.key)
        for item in stale:
            made[asset.key, item.partition] = store.require(asset.key, item.partition).device_seconds
        say(f"{place}: done in {time.monotonic() - begun:.1f} s")


def _run(
    asset: Asset,
    first: str,
    last: str,
    definitions: Sequence[dg.AssetsDefinition],
    resources: Mapping[str, Any],
    instance: dg.DagsterInstance,
) -> None:
    result = dg.materialize(
        definitions,
        selection=dg.AssetSelection.assets(asset_key(asset.key)),
        resources=resources,
        instance=instance,
        tags=partition_tags(first, last) | process_tags(),
        run_config=QUIET,
        raise_on_error=False,
    )
    if not result.success:
        raise dg.Failure(description=f"{asset.key}: {_cause(result)}", allow_retries=False)


def _cause(result: dg.ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.user_failure_data and failure.user_failure_data.description:
                return failure.user_failure_data.description
            if failure.error:
                return failure.error.to_string()
    return "run failed"
