"""Instances of Dagster in memory. A new one reads all migrations of its tables, which takes longer than the bookkeeping
of a small run; so a process makes one, and empties it after each use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

_IDLE: list[dg.DagsterInstance] = []


@contextmanager
def empty_instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory that knows of no run and no event; inside another one's block another instance."""
    instance = _IDLE.pop() if _IDLE else dg.DagsterInstance.ephemeral()
    try:
        yield instance
    finally:
        instance.wipe()
        _IDLE.append(instance)
