"""Workers of a refresh: long-lived processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Self

import dagster as dg

from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import Settings
from jobs.session import DEFAULT_INTERRUPT
from jobs.workers.dagster_internals import reference_of
from jobs.workers.orphans import fail_orphaned_runs
from jobs.workers.process import Job, Task
from resources import build_resources

GB = 2**30
_TRIES = 2
"""Attempts for a run whose process is killed."""
_INTERRUPT_SECONDS, _REPEAT_SECONDS = 60.0, 5.0
"""Seconds that an interrupted process has to store its work, and seconds between interrupts."""


@dataclass
class _Process:
    """A worker process; `run` is the run that it executes."""

    number: int
    handle: subprocess.Popen[bytes]
    connection: Connection
    run: str | None = None


@dataclass
class _Run:
    task: Task
    tries: int = 0
    outcome: str | None = None


@dataclass
class Lane:
    """A slot for one process: `device` for steps of the device, `host` for the others."""

    device: bool
    host: bool
    process: _Process | None = field(default=None, repr=False)


def lanes(processes: int, gpus: int) -> list[Lane]:
    """Slots for `processes` on the CPUs and one on each GPU; without a GPU every process takes every step."""
    if not gpus:
        return [Lane(device=True, host=True) for _ in range(processes)]
    return [*(Lane(device=True, host=False) for _ in range(gpus)), *(Lane(False, True) for _ in range(processes))]


class Processes:
    """Starts a process when there is work for it, and keeps it, so that its resources stay loaded.

    A process that is killed is replaced and its run is repeated; killed again, the run counts as failed. Leaving the
    context by an exception interrupts the processes, so that they store their finished work; they do not outlive this
    process.
    """

    def __init__(
        self,
        settings: Settings,
        instance: dg.DagsterInstance,
        places: list[Lane],
        on_device: Collection[str],
        tags: Mapping[str, str],
        log: Callable[[str], None],
        resources: Callable[[Settings], dict[str, Any]] = build_resources,
    ) -> None:
        """Workers in slots.

        Args:
            on_device: keys of the assets whose steps run on the device.
            tags: tags of every run.
            resources: an importable function with which each process builds its own resources.
        """
        self.runs_per_asset = 2 * len(places)
        self._job = Job(settings, reference_of(instance), dict(tags), resources)
        self._instance, self._lanes, self._on_device, self._log = instance, places, on_device, log
        self._runs: dict[str, _Run] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind and issubclass(kind, KeyboardInterrupt | dg.DagsterExecutionInterruptedError):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second interrupt would prevent waiting for the processes
        processes = [lane.process for lane in self._lanes if lane.process]
        for process in processes:
            if process.run is None:
                process.connection.close()  # which ends it
        deadline = time.monotonic() + _INTERRUPT_SECONDS
        for process in processes:
            self._end(process, deadline)

    @staticmethod
    def _end(process: _Process, deadline: float) -> None:
        """Interrupt a process until it ends; a signal may be lost, for example while a library is imported."""
        while process.handle.poll() is None:
            if time.monotonic() > deadline:
                process.handle.kill()
            elif process.run is not None:
                process.handle.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.handle.wait(_REPEAT_SECONDS)
        process.connection.close()

    @staticmethod
    def _ended(process: _Process) -> None:
        """End an idle process."""
        process.connection.close()
        process.handle.wait()

    def has_room(self, asset: Asset) -> bool:
        return self._free(asset.key) is not None

    def submit(self, asset: Asset, first: str, last: str) -> str:
        run = str(len(self._runs))
        self._runs[run] = _Run((asset.key, first, last))
        self._begin(run)
        return run

    def unfinished(self, asset: Asset) -> list[str]:
        return []  # processes do not outlive the refresh that started them

    def outcome(self, run: str) -> str | None:
        return self._runs[run].outcome

    def wait(self) -> None:
        """Wait until a process has finished a run, or has ended."""
        busy = {lane.process.connection: lane for lane in self._lanes if lane.process and lane.process.run is not None}
        for connection in wait(list(busy)) if busy else []:
            assert isinstance(connection, Connection)
            lane = busy[connection]
            assert lane.process
            assert lane.process.run is not None
            run = lane.process.run
            try:
                self._runs[run].outcome, held = connection.recv()
                lane.process.run = None
                if lane.host and held > self._job.settings.workers.memory_gb * GB:
                    key = self._runs[run].task[0]
                    self._log(f"a worker process holds {held / GB:.1f} GB after {key}; it is replaced by a new one")
                    lane.process = self._ended(lane.process)
            except (EOFError, ConnectionResetError):
                self._replace(lane, run)

    def _free(self, key: str) -> Lane | None:
        """An idle slot for a step; one that already has a process is preferred."""
        fitting = [
            lane
            for lane in self._lanes
            if (lane.device if key in self._on_device else lane.host) and not (lane.process and lane.process.run)
        ]
        return min(fitting, key=lambda lane: lane.process is None, default=None)

    def _begin(self, run: str) -> None:
        lane = self._free(self._runs[run].task[0])
        assert lane
        self._runs[run].tries += 1
        lane.process = lane.process or self._start(self._lanes.index(lane))
        lane.process.run = run
        with suppress(BrokenPipeError):  # it was killed while it was idle, which `wait` detects
            lane.process.connection.send(self._runs[run].task)

    def _start(self, number: int) -> _Process:
        ours, theirs = Pipe()
        threads = str(self._job.settings.workers.threads)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": threads,
            "OPENCV_FOR_THREADS_NUM": threads,
            "TQDM_POSITION": str(number),  # a progress bar stays on its own line
        }
        command = [sys.executable, "-c", f"{DEFAULT_INTERRUPT}; from jobs.workers.process import main; main()"]
        # in a session of its own: Ctrl-C reaches it once, through this process
        handle = subprocess.Popen(
            [*command, str(theirs.fileno())],
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        ours.send(self._job)
        return _Process(number, handle, ours)

    def _replace(self, lane: Lane, run: str) -> None:
        """Handle a process that died during a run."""
        assert lane.process
        lane.process.connection.close()
        status = lane.process.handle.wait()
        lane.process = None
        fail_orphaned_runs(self._instance, self._log)
        key, first, last = self._runs[run].task
        how = f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended with status {status}"
        what = f"the worker process that made {first if first == last else f'{first} to {last}'} {how}"
        if status < 0 and self._runs[run].tries < _TRIES:
            self._log(f"{key}: {what}; another one repeats it")
            self._begin(run)
        else:
            hint = "; if memory ran out, lower workers.processes" if status == -signal.SIGKILL else "; see above"
            self._runs[run].outcome = f"{what}{hint}"
