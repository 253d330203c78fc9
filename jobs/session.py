"""A command in a session of its own: Ctrl-C reaches it once, and no process that it started outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress

_TRIES, _SECONDS = 3, 30.0
"""Number of interrupts before a command is killed, and the seconds after each. A signal that arrives while Python
collects garbage, or closes a connection, is lost."""

DEFAULT_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)"
"""First statement of a process that has no state to save before its imports are done: an interrupt simply ends it."""


def run_until_stopped(command: Sequence[str]) -> int:
    """Run a command, and interrupt it when this process is interrupted or terminated.

    Returns:
        Its exit status, 0 after an interrupt.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started this process in the background
        signal.signal(number, signal.default_int_handler)
    # helpers that Dagster starts, which a terminal's Ctrl-C would reach too, end with stack traces
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        for _ in range(_TRIES):
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(_SECONDS)
        return 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
