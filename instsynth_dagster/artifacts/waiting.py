"""Waiting for other processes, with a log line for each obstacle."""

from __future__ import annotations

import time
from collections.abc import Callable

_EVERY = 1.0


def wait_while(obstacle: Callable[[], str], log: Callable[[str], None], every: float = _EVERY) -> None:
    """Wait until there is no obstacle any more, checking every `every` seconds; each obstacle is logged once."""
    reported = ""
    while found := obstacle():
        if found != reported:
            log(f"waiting for {found}")
            reported = found
        time.sleep(every)
