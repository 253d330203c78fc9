"""The interface between a store and the place of its files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.artifacts.manifest import StoredFile

LOCKS = ".locks"
"""Folder of the locks, outside the partitions."""


def damaged_name(path: str) -> str:
    """The name to which a damaged file is renamed: outside its subfolder, which may be filled anew."""
    return f"{path.replace('/', '_')}.damaged"


def is_intact(path: Path, file: StoredFile) -> bool:
    """Whether a local file has the size and the digest that a manifest records."""
    return path.stat().st_size == file.bytes and file_sha256(path) == file.sha256


class DamagedFile(Exception):
    """A file whose size or digest differs from its manifest."""


class Lock(Protocol):
    """A lock that is held while one process makes a partition."""

    def check(self) -> None:
        """Check that the lock is still held.

        Raises:
            LockLost: another process has taken the partition over.
        """
        ...


class Storage(Protocol):
    """Files by path relative to a root, with `/`. A file is present completely or not at all.

    A *folder* is a partition's directory; a *staging directory* is a local directory in which its files are prepared.
    """

    url: str
    """For messages."""
    remote: bool
    """Whether many small reads are slow one by one, and quick with `read_many`."""

    def read(self, path: str) -> bytes:
        """Content of a file. Raises FileNotFoundError."""
        ...

    def write(self, path: str, content: bytes) -> None: ...

    def names(self, folder: str) -> list[str]:
        """Paths of all files below a folder, relative to it; empty where the folder does not exist."""
        ...

    def entries(self, folder: str) -> set[str]:
        """Names of the files and folders in a folder; empty where it does not exist."""
        ...

    def holds(self, folder: str, paths: Collection[str]) -> bool:
        """Whether all of these files are in a folder."""
        ...

    def remove(self, folder: str, entries: Iterable[str]) -> None:
        """Remove files and folders of a folder, with their content."""
        ...

    def set_aside(self, folder: str, path: str) -> None:
        """Rename a damaged file of a folder, so that its partition counts as incomplete."""
        ...

    def fetch(self, folder: str, file: StoredFile) -> Path:
        """A local file with exactly the bytes that a manifest records.

        Raises:
            FileNotFoundError: the file is missing.
            DamagedFile: size or digest differ.
        """
        ...

    def fetch_folder(self, folder: str, name: str, files: Iterable[StoredFile]) -> Path:
        """A local directory with the files of a folder's subfolder `name`; raises the errors of `fetch`."""
        ...

    def verify(self, folder: str, file: StoredFile) -> None:
        """Compare the stored bytes themselves with a manifest, regardless of earlier results; raises the errors of
        `fetch`.
        """
        ...

    def drop_damaged_copies(self, files: Collection[StoredFile]) -> list[Path]:
        """Remove the local copies of a partition's parts, or of one of its subfolders, that differ from the manifest,
        and return their paths.
        """
        ...

    def copy(self, path: str) -> Path:
        """A local file with the bytes of a stored file, unchecked; raises FileNotFoundError."""
        ...

    def staging_directory(self, folder: str) -> Path:
        """The local directory, created if missing, in which files of a folder are prepared."""
        ...

    def publish(self, folder: str, source: Path, file: StoredFile) -> None:
        """Put a prepared local file into a folder as `file.path`; the local file is moved unless it already is that
        file.
        """
        ...

    def scratch_directory(self, folder: str, name: str) -> AbstractContextManager[Path]:
        """A local directory for the state of unfinished work, from which a process on another machine can continue."""
        ...

    def lock(self, name: str, holder: str, log: Callable[[str], None]) -> AbstractContextManager[Lock]:
        """Hold a name; wait, and log for whom, while another process holds it.

        Args:
            holder: description of the other process ("another refresh").
        """
        ...

    def read_many(self, paths: Collection[str]) -> Mapping[str, bytes]:
        """Contents of the existing ones among these files, by path."""
        ...
