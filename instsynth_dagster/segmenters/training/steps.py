"""The steps of a training in other processes, reported to the process that started them, which may stop it.

Messages are lines on a socket in a folder that only this user can enter: the worker sends [done, total] as JSON,
followed by the newest loss where there is one, and the reply is "" or the reason to stop.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

from instsynth_dagster.errors import BudgetReached
from instsynth_dagster.segmenters.contract import Progress

SOCKET = "INSTSYNTH_STEPS"
"""Environment variable with the path of the socket."""
_POLL_SECONDS = 0.2


def is_first_process() -> bool:
    """Whether this is the only process of a training or the first of several, which writes the results."""
    return os.environ.get("RANK", "0") == "0"


class WorkerSteps:
    """Context manager that calls `progress` with the steps of one worker; `stopped` is the exception that `progress`
    raised.

    The worker is stopped after the step at which `progress` raised it.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.stopped: Exception | None = None
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="instsynth-"))
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(self._folder / "steps"))
        self._server.listen(1)
        self._server.settimeout(_POLL_SECONDS)
        self.environment = {SOCKET: str(self._folder / "steps")}
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._server.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _serve(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError, ConnectionError):
                connection = self._server.accept()[0]
                connection.settimeout(None)
                with connection, connection.makefile("rw") as lines:
                    for line in lines:
                        lines.write(f"{self._infer(*json.loads(line))}\n")
                        lines.flush()

    def _infer(self, done: int, total: int, *loss: float) -> str:
        try:
            if self._progress:
                self._progress(done, total, *loss)
        except Exception as error:
            self.stopped = error
            return " ".join(str(error).split()) or type(error).__name__
        return ""


def report_steps() -> Progress:
    """The `progress` of a worker, which reports steps to the process that started it.

    Raises:
        BudgetReached: raised by the returned function where that process requests it.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.environ[SOCKET])
    lines = connection.makefile("rw")

    def progress(done: int, total: int, *loss: float) -> None:
        lines.write(f"{json.dumps([done, total, *loss])}\n")
        lines.flush()
        if reason := lines.readline().strip():
            raise BudgetReached(reason)

    return progress
