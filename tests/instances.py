"""Instances of Dagster in memory. A new one reads all migrations of its tables, which takes longer than the bookkeeping
of a small run; so a process makes one, and empties it after each use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

_IDLE: list[dg.DagsterInstance] = []
_MIGRATIONS: dict[str, Any] = {}
"""What alembic has read, by the folder."""


@contextmanager
def empty_instance() -> Iterator[dg.DagsterInstance]:
    """An instance in memory that knows of no run and no event; inside another one's block another instance."""
    instance = _IDLE.pop() if _IDLE else dg.DagsterInstance.ephemeral()
    try:
        yield instance
    finally:
        instance.wipe()
        _IDLE.append(instance)


@contextmanager
def migrations_read_once() -> Iterator[None]:
    """For instances on the disk, on which every run has tables of its own to be marked with the newest migration."""
    from alembic.script import ScriptDirectory

    read = ScriptDirectory.from_config

    def once(config: Any) -> ScriptDirectory:
        folder = config.get_main_option("script_location")
        if folder not in _MIGRATIONS:
            _MIGRATIONS[folder] = read(config)
        return _MIGRATIONS[folder]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptDirectory, "from_config", once)
        yield
