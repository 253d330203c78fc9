"""One refresh at a time on a store, and none while DVC is taking stock of it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
_EVERY = 1.0
_INSIDE_DVC = "DVC_STAGE"
"""Set by DVC in the environment of a stage's command."""


@contextmanager
def refresh_lock(root: Path, project: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the store at `root`; wait, and say for whom, while another refresh or a DVC command of `project` is at work.

    The operating system drops the lock of a killed process. A refresh that DVC itself started does not wait for DVC.
    """
    wait_while(lambda: "" if os.environ.get(_INSIDE_DVC) else dvc_at_work(project), say)
    root.mkdir(parents=True, exist_ok=True)
    with (root / LOCK).open("a+") as file:
        wait_while(lambda: "" if _taken(file.fileno()) else f"another refresh of {root} ({_owner(root)})", say)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield


def dvc_at_work(project: Path) -> str:
    """Which DVC command holds outputs or dependencies of a project; "" where none does."""
    path = project / ".dvc" / "tmp" / "rwlock"
    try:
        held = json.loads(path.read_text() or "{}")
    except (OSError, ValueError):
        return ""
    holders = [*held.get("write", {}).values(), *(h for readers in held.get("read", {}).values() for h in readers)]
    for holder in holders:
        if is_alive(holder["pid"]):
            return f"`{holder['cmd']}` (process {holder['pid']})"
    return ""


def wait_while(obstacle: Callable[[], str], say: Callable[[str], None]) -> None:
    """Wait until there is no obstacle any more; each one is said once."""
    told = ""
    while found := obstacle():
        if found != told:
            say(f"waiting for {found}")
            told = found
        time.sleep(_EVERY)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(root: Path) -> str:
    return (root / LOCK).read_text() or "starting"


def is_alive(pid: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
