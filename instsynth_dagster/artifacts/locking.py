"""A lock that allows one refresh at a time on a store, and none while DVC records the state of its outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from instsynth_dagster.artifacts.storage.base import Storage
from instsynth_dagster.artifacts.waiting import wait_while

_INSIDE_DVC = "DVC_STAGE"
"""Set by DVC in the environment of a stage's command."""


@contextmanager
def refresh_lock(storage: Storage, project: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold a store; wait, and log for whom, while another refresh or a DVC command of `project` is running.

    A refresh that DVC itself started does not wait for DVC.
    """
    wait_while(lambda: "" if os.environ.get(_INSIDE_DVC) else dvc_at_work(project), log)
    with storage.lock("refresh", f"another refresh of {storage.url}", log):
        yield


def dvc_at_work(project: Path) -> str:
    """The DVC command that holds outputs or dependencies of a project; "" where there is none."""
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


def is_alive(pid: int) -> bool:
    """Whether a process with this id exists on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
