"""State of unfinished work, copied to the object store so that another machine can continue it."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Protocol, Self

from instsynth_dagster.errors import UserError

EVERY = 15.0
SETTLED = 2.0
"""Seconds since its last change after which a file counts as completely written."""


class Objects(Protocol):
    """The operations of an object store that a mirror uses; paths are relative to its root."""

    def names(self, folder: str) -> list[str]: ...

    def read(self, path: str) -> bytes: ...

    def write(self, path: str, content: bytes) -> None: ...

    def remove(self, folder: str, entries: list[str]) -> None: ...


class ScratchMirror:
    """Context manager that downloads the state of an earlier, killed run, and from then on uploads changes to it.

    Files are uploaded in the order in which they were written, so the file that marks a checkpoint as complete arrives
    last, as on a disk.
    """

    def __init__(self, storage: Objects, folder: str, path: Path, every: float = EVERY) -> None:
        self._storage, self._folder, self._path, self._every = storage, folder, path, every
        self._carried: dict[str, tuple[int, int]] = {}
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        shutil.rmtree(self._path, ignore_errors=True)  # the store holds the state of the run that progressed furthest
        self._path.mkdir(parents=True)
        for name in self._storage.names(self._folder):
            target = self._path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._storage.read(f"{self._folder}/{name}"))
            self._carried[name] = _stamp(target)
        self._thread = threading.Thread(target=self._upload_regularly, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.upload(settled=0.0)

    def _upload_regularly(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self.upload(SETTLED)
            except (OSError, UserError):
                continue  # the work itself goes on; the next round uploads the rest

    def upload(self, settled: float) -> None:
        """Bring the store up to date with the directory, leaving out files younger than `settled` seconds."""
        found = {path.relative_to(self._path).as_posix(): path for path in self._path.rglob("*") if path.is_file()}
        stamps = {name: stamp for name, path in found.items() if (stamp := _stamp(path))}
        for name in sorted(stamps, key=lambda name: stamps[name][1]):
            if time.time_ns() - stamps[name][1] < settled * 1e9:
                break  # later files must not arrive before it
            if self._carried.get(name) != stamps[name]:
                self._storage.write(f"{self._folder}/{name}", found[name].read_bytes())
                self._carried[name] = stamps[name]
        for name in [name for name in self._carried if name not in found]:
            head, _, tail = name.rpartition("/")
            self._storage.remove(f"{self._folder}/{head}".rstrip("/"), [tail])
            del self._carried[name]


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
