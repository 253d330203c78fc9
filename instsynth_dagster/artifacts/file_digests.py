"""Digests of files outside the store, computed once for each size and modification time."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.errors import UnreadableError, is_transient

_WAIT = 60.0


class FileDigests:
    """sha256 of files, remembered in a SQLite file that may be deleted at any time.

    A copy of the same files elsewhere, with other modification times, is read again and has the same digests.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def signature(self, files: Sequence[Path], root: Path) -> str:
        """sha256 over the (path relative to `root`, content) of files.

        Raises:
            UnreadableError: a file is missing, is not a regular file, or may not be read.
        """
        paths = {_name(path): path for path in files}
        stats = {name: _stat_of_file(path) for name, path in paths.items()}
        stamps = {name: f"{look.st_size}:{look.st_mtime_ns}" for name, look in stats.items()}
        known = self._known(stamps)
        new = [(name, stamp, _sha256(paths[name])) for name, stamp in stamps.items() if name not in known]
        if new:
            self._remember(new)
        known |= {name: digest for name, _, digest in new}
        lines = [f"{path.relative_to(root).as_posix()}\0{known[_name(path)]}" for path in files]
        return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()

    def _known(self, stamps: dict[str, str]) -> dict[str, str]:
        if not stamps or not self._path.exists():
            return {}
        first, last = min(stamps), max(stamps)
        try:
            with closing(sqlite3.connect(self._path, timeout=_WAIT)) as connection:
                rows = connection.execute(
                    "SELECT name, stamp, digest FROM files WHERE name BETWEEN ? AND ?", (first, last)
                ).fetchall()
        except sqlite3.OperationalError:
            return {}
        except sqlite3.DatabaseError:  # damaged
            self._path.unlink(missing_ok=True)
            return {}
        return {name: digest for name, stamp, digest in rows if stamps.get(name) == stamp}

    def _remember(self, rows: list[tuple[str, str, str]]) -> None:
        with suppress(OSError, sqlite3.Error):  # a digest that is not remembered is computed again
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=_WAIT)) as connection, connection:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("CREATE TABLE IF NOT EXISTS files (name TEXT PRIMARY KEY, stamp TEXT, digest TEXT)")
                connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)


def _name(path: Path) -> str:
    """A path as text for SQLite, also where it is not valid UTF-8."""
    return str(path.absolute()).encode(errors="backslashreplace").decode()


def _stat_of_file(path: Path) -> os.stat_result:
    try:
        look = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(look.st_mode):
        raise UnreadableError(f"{path}: not a file")
    return look


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> Exception:
    return error if is_transient(error) else UnreadableError(f"{path}: cannot be read ({error.strerror})")
