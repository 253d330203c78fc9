"""Content of files outside the store: hashed once, then trusted while size and time stay."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from instsynth_dagster.files import file_sha256

_WAIT = 60.0


class FileDigests:
    """sha256 of files, remembered in a SQLite file that anyone may delete.

    A copy of the same files elsewhere, with other times, is read again but has the same digests.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def signature(self, files: Sequence[Path], root: Path) -> str:
        """sha256 over the (path relative to `root`, content) of files."""
        stats = {str(path.absolute()): path.stat() for path in files}
        stamps = {name: f"{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats.items()}
        known = self._known(stamps)
        new = [(name, stamp, file_sha256(Path(name))) for name, stamp in stamps.items() if name not in known]
        if new:
            self._remember(new)
        known |= {name: digest for name, _, digest in new}
        lines = [f"{path.relative_to(root).as_posix()}\0{known[str(path.absolute())]}" for path in files]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()

    def _known(self, stamps: dict[str, str]) -> dict[str, str]:
        if not stamps or not self._path.exists():
            return {}
        first, last = min(stamps), max(stamps)
        with closing(sqlite3.connect(self._path, timeout=_WAIT)) as connection:
            rows = connection.execute(
                "SELECT name, stamp, digest FROM files WHERE name BETWEEN ? AND ?", (first, last)
            ).fetchall()
        return {name: digest for name, stamp, digest in rows if stamps.get(name) == stamp}

    def _remember(self, rows: list[tuple[str, str, str]]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self._path, timeout=_WAIT)) as connection, connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, stamp TEXT, digest TEXT)")
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)
