"""What a worker process of a refresh does: it makes one run after another, until its refresh ends."""

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
"""Asset, first and last of a stretch of its partitions."""


@dataclass(frozen=True)
class Job:
    """What a worker process is told when it starts: `instance` is the reference of the Dagster instance to report to,
    `tags` are given to every run, `resources` builds what assets are given."""

    settings: Settings
    instance: Any
    tags: dict[str, str]
    resources: Callable[[Settings], dict[str, Any]]


def main() -> None:
    """Read a `Job`, then tasks, from the connection whose file descriptor is the argument; answer each with why it
    failed or "", and the bytes of memory that this process holds after it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has started us in the background
    with suppress(KeyboardInterrupt, dg.DagsterExecutionInterruptedError):  # the run has put away what was whole
        _work(Connection(int(sys.argv[1])))


def _work(connection: Connection) -> None:
    job: Job = connection.recv()
    tasks: SimpleQueue[Task] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, tasks), daemon=True).start()
    graph = build_graph(job.settings)
    with instance_of(job.instance) as instance:
        runs = AssetRuns(build_assets(job.settings, graph), job.resources(job.settings), instance, job.tags)
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
    """End this process, whatever it does, when the one that started it is gone: another refresh may begin."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        os._exit(0)
