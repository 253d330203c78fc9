"""A worker process of a refresh, which executes one run after another until the refresh ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import dagster as dg

from assets import build_assets, build_graph
from instsynth_dagster.settings import Settings
from jobs.workers.dagster_internals import instance_of
from jobs.workers.runs import AssetRuns

Task = tuple[str, str, str]
"""Asset, first and last of a range of its partitions."""


@dataclass(frozen=True)
class Job:
    """The start message of a worker process: `instance` is the reference of the Dagster instance to report to, `tags`
    are put on every run, `resources` builds the resources of assets.
    """

    settings: Settings
    instance: Any
    tags: dict[str, str]
    resources: Callable[[Settings], dict[str, Any]]


def main() -> None:
    """Read a `Job`, then tasks, from the connection whose file descriptor is the argument; reply to each with the
    reason why it failed or "", and the bytes of memory that this process then holds.
    """
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # also where a shell started this process in the background
    with suppress(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):  # the run has stored its finished rows
        _work(Connection(int(sys.argv[1])))


def _work(connection: Connection) -> None:
    job: Job = connection.recv()
    tasks: SimpleQueue[Task] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    graph = build_graph(job.settings)
    with instance_of(job.instance) as instance:
        runs = AssetRuns(build_assets(graph), job.resources(job.settings), instance, job.tags)
        while True:
            failure = runs.make(*tasks.get())
            connection.send((failure, _held()))


def _held() -> int:
    """Bytes of memory that belong to this process alone; 0 where the system does not say."""
    try:
        resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    except FileNotFoundError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def _listen(connection: Connection, tasks: SimpleQueue[Task]) -> None:
    """End this process when the one that started it is gone, because another refresh may start."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)
