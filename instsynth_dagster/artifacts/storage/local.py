"""Artifacts on a local or shared disk."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.artifacts.manifest import StoredFile
from instsynth_dagster.artifacts.storage.base import LOCKS, DamagedFile, damaged_name, is_intact
from instsynth_dagster.artifacts.waiting import wait_while


class LocalStorage:
    """Files below a directory. Staging directories are the folders themselves; locks are the operating system's, which
    releases those of a killed process.
    """

    remote = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)
        self._verified: dict[Path, tuple[int, int, str]] = {}

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def write(self, path: str, content: bytes) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            shutil.rmtree(target)
        write_atomically(target, content)

    def names(self, folder: str) -> list[str]:
        base = self.root / folder
        return [path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()]

    def entries(self, folder: str) -> set[str]:
        try:
            return set(os.listdir(self.root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def holds(self, folder: str, paths: Collection[str]) -> bool:
        return all((self.root / folder / path).is_file() for path in paths)

    def remove(self, folder: str, entries: Iterable[str]) -> None:
        for name in entries:
            path = self.root / folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def set_aside(self, folder: str, path: str) -> None:
        os.replace(self.root / folder / path, self.root / folder / damaged_name(path))

    def fetch(self, folder: str, file: StoredFile) -> Path:
        """The file itself, hashed once in a process, and again when its size or modification time has changed."""
        path = self.root / folder / file.path
        stat = path.stat()
        seen = (stat.st_size, stat.st_mtime_ns, file.sha256)
        if self._verified.get(path) != seen:
            if not is_intact(path, file):
                raise DamagedFile(file.path)
            self._verified[path] = seen
        return path

    def fetch_folder(self, folder: str, name: str, files: Iterable[StoredFile]) -> Path:
        for file in files:
            self.fetch(folder, file)
        return self.root / folder / name

    def verify(self, folder: str, file: StoredFile) -> None:
        self._verified.pop(
            self.root / folder / file.path, None
        )  # a flipped bit changes neither size nor modification time
        self.fetch(folder, file)

    def drop_damaged_copies(self, files: Collection[StoredFile]) -> list[Path]:
        return []

    def copy(self, path: str) -> Path:
        target = self.root / path
        if not target.is_file():
            raise FileNotFoundError(target)
        return target

    def staging_directory(self, folder: str) -> Path:
        path = self.root / folder
        path.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, folder: str, source: Path, file: StoredFile) -> None:
        target = self.root / folder / file.path
        if source != target:
            os.replace(source, target)
        stat = target.stat()
        self._verified[target] = (stat.st_size, stat.st_mtime_ns, file.sha256)

    @contextmanager
    def scratch_directory(self, folder: str, name: str) -> Iterator[Path]:
        path = self.root / folder / name
        path.mkdir(parents=True, exist_ok=True)
        yield path

    @contextmanager
    def lock(self, name: str, holder: str, log: Callable[[str], None]) -> Iterator[_Held]:
        path = self.root / LOCKS / f"{name}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+") as file:
            wait_while(lambda: "" if _taken(file.fileno()) else f"{holder} ({_owner(path)})", log)
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield _Held()

    def read_many(self, paths: Collection[str]) -> Mapping[str, bytes]:
        contents = {}
        for path in paths:
            with suppress(FileNotFoundError, NotADirectoryError):
                contents[path] = self.read(path)
        return contents


class _Held:
    def check(self) -> None:
        """Nothing to check: a lock of the operating system is never lost."""


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _owner(path: Path) -> str:
    return path.read_text() or "another process"
