"""Workers of a refresh: processes of this machine, or Dagster's own queue."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from assets.shared.stored import DEVICE_POOL
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import Settings, WorkerSettings
from jobs.refresh import Workers
from jobs.workers.dagster_internals import set_pool_limit, show_in_timeline
from jobs.workers.orphans import fail_orphaned_runs, process_tags
from jobs.workers.processes import GB, Processes, lanes
from jobs.workers.queue import RunQueue
from jobs.workers.routing import RoutedRunCoordinator
from jobs.workers.runs import InThisProcess, refresh_tag
from resources.device import count_gpus


@contextmanager
def open_workers(
    settings: Settings,
    graph: Mapping[str, Asset],
    definitions: Sequence[dg.AssetsDefinition],
    resources: Mapping[str, Any],
    context: dg.OpExecutionContext,
) -> Iterator[Workers]:
    """Workers for the refresh in the op `context`: the queue where the instance routes runs, else processes of this
    machine, or this process alone where only one is allowed or the instance is temporary.
    """
    instance, log = context.instance, context.log.info
    pools = {definition.key.to_user_string(): definition.op.pool for definition in definitions}
    on_device = {key for key in graph if pools[key]}
    instance.add_run_tags(context.run_id, refresh_tag(context.run_id))
    if isinstance(instance.run_coordinator, RoutedRunCoordinator):
        yield RunQueue(context, on_device)
        return
    instance.add_run_tags(context.run_id, process_tags())
    show_in_timeline(instance, context.run_id)
    fail_orphaned_runs(instance, log)
    tags = refresh_tag(context.run_id)
    processes = count_processes(settings.workers)
    if processes == 1 or not instance.is_persistent:
        yield InThisProcess(definitions, resources, instance, tags)
        return
    gpus = count_gpus(settings.device)
    if any(segmenter.processes > 1 for segmenter in settings.segmenters.values()):
        gpus = min(gpus, 1)  # a training with several processes uses all GPUs
    set_pool_limit(instance, DEVICE_POOL, gpus or processes)
    with Processes(settings, instance, lanes(processes, gpus), on_device, tags, log) as workers:
        yield workers


def count_processes(given: WorkerSettings) -> int:
    """Number of worker processes for which this machine has room, or the number in the settings."""
    if given.processes != "auto":
        return given.processes
    return max(1, min(_cores() // given.threads, int(_memory() / (given.memory_gb * GB))))


def _cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    """Bytes of memory of this machine, or of the container of this process."""
    bounds = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        if path.exists() and (text := path.read_text().strip()).isdigit():
            bounds.append(int(text))
    return min(bounds)
