"""Artifacts in an object store, through fsspec: local copies by content, complete objects, leases instead of locks."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import fsspec

from instsynth_dagster.artifacts.manifest import StoredFile
from instsynth_dagster.artifacts.storage.base import LOCKS, DamagedFile, damaged_name, is_intact
from instsynth_dagster.artifacts.storage.leases import Lease
from instsynth_dagster.artifacts.storage.scratch import ScratchMirror
from instsynth_dagster.errors import ArtifactError, SettingsError, reason

T = TypeVar("T")
_WAITS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds between the attempts of a request that failed for a temporary reason."""


class ObjectStorage:
    """Objects below a URL. Files that are read are kept in `cache` by content; files to be written are prepared there.

    A kept copy is hashed once in a process, and again when its size or modification time has changed; a damaged one is
    replaced.

    Credentials come from the environment, as the driver of the protocol reads them (`AWS_ACCESS_KEY_ID`,
    `GOOGLE_APPLICATION_CREDENTIALS`, `FSSPEC_S3_ENDPOINT_URL`, ...).
    """

    remote = True

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url.rstrip("/")
        self._driver, self._root = _filesystem(self.url)
        self._process = os.getpid()
        # s3fs asks for an object's size first where it may read it in blocks; the files read here are small
        self._at_once = {"max_concurrency": 1} if self.url.startswith("s3://") else {}
        self._local = cache / sha256(self.url.encode()).hexdigest()[:16]
        self._verified: dict[Path, tuple[int, int, str]] = {}

    @property
    def _fs(self) -> Any:
        if self._process != os.getpid():  # drivers do not survive a fork, by which workers of a data loader start
            self._driver, self._process = _filesystem(self.url)[0], os.getpid()
        return self._driver

    def read(self, path: str) -> bytes:
        return self._with_retries(lambda: self._fs.cat_file(self._at(path), **self._at_once))

    def write(self, path: str, content: bytes) -> None:
        self._with_retries(lambda: self._fs.pipe_file(self._at(path), content))

    def create(self, path: str, content: bytes) -> bool:
        """Write an object that does not exist yet; False where it exists. Of several concurrent writers one
        succeeds.
        """

        def write() -> None:
            try:
                self._fs.pipe_file(self._at(path), content, mode="create")
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # s3fs's error for a refusal in which the server does not name the condition
                raise FileExistsError(path) from error

        try:
            self._with_retries(write)
        except FileExistsError:
            # after a lost response the driver repeats the request and finds its own object
            return self.read(path) == content
        return True

    def entries(self, folder: str) -> set[str]:
        return {path.split("/", 1)[0] for path in self.names(folder)}

    def names(self, folder: str) -> list[str]:
        """Paths of all objects below a folder, relative to it."""
        base = self._at(folder).rstrip("/") + "/"
        return [path.removeprefix(base) for path in self._find(base)]

    def _find(self, base: str) -> list[str]:
        def find() -> list[str]:
            try:
                return self._fs.find(base)
            except FileNotFoundError:
                return []

        # drivers return the folder itself where it is empty
        return [path for path in self._with_retries(find) if path.startswith(base) and path != base]

    def holds(self, folder: str, paths: Collection[str]) -> bool:
        return set(paths) <= set(self.names(folder))

    def remove(self, folder: str, entries: Iterable[str]) -> None:
        wanted = set(entries)
        gone = [self._at(f"{folder}/{name}") for name in self.names(folder) if name.split("/", 1)[0] in wanted]
        if gone:
            self._with_retries(lambda: self._fs.rm(gone))

    def set_aside(self, folder: str, path: str) -> None:
        source, target = self._at(f"{folder}/{path}"), self._at(f"{folder}/{damaged_name(path)}")
        self._with_retries(lambda: self._fs.mv(source, target))

    def fetch(self, folder: str, file: StoredFile) -> Path:
        kept = self._kept(file)
        if not self._is_good(kept, file):
            self._download(f"{folder}/{file.path}", kept, file)
        return kept

    def fetch_folder(self, folder: str, name: str, files: Iterable[StoredFile]) -> Path:
        files = list(files)
        base = self._kept_folder(files)
        (base / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            target = base / file.path
            if not self._is_good(target, file):
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f"{target.name}.tmp-{os.getpid()}")
                shutil.copyfile(self.fetch(folder, file), temporary)
                os.replace(temporary, target)
        return base / name

    def verify(self, folder: str, file: StoredFile) -> None:
        unread = self._local / "verified" / file.sha256
        self._download(f"{folder}/{file.path}", unread, file)
        unread.unlink(missing_ok=True)

    def drop_damaged_copies(self, files: Collection[StoredFile]) -> list[Path]:
        copies = [(path, file) for file in files for path in (self._kept(file), self._kept_folder(files) / file.path)]
        damaged = [path for path, file in copies if path.exists() and not is_intact(path, file)]
        for path in damaged:
            self._verified.pop(path, None)
            path.unlink()
        return damaged

    def copy(self, path: str) -> Path:
        target = self._local / "copies" / path
        self._download(path, target, None)
        return target

    def staging_directory(self, folder: str) -> Path:
        path = self._local / "work" / folder
        path.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, folder: str, source: Path, file: StoredFile) -> None:
        self._with_retries(lambda: self._fs.put_file(str(source), self._at(f"{folder}/{file.path}")))
        kept = self._kept(file)
        kept.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, kept)

    @contextmanager
    def scratch_directory(self, folder: str, name: str) -> Iterator[Path]:
        path = self.staging_directory(folder) / name
        with ScratchMirror(self, f"{folder}/{name}", path):
            yield path

    def lock(self, name: str, holder: str, log: Callable[[str], None]) -> Lease:
        return Lease(self, f"{LOCKS}/{name}", holder, log)

    def read_many(self, paths: Collection[str]) -> Mapping[str, bytes]:
        """Contents of files, read in one round of concurrent requests."""

        def read() -> dict[str, bytes]:
            found = self._fs.cat([self._at(path) for path in paths], on_error="return", **self._at_once)
            contents = {path: found[self._at(path)] for path in paths}
            failures = [content for content in contents.values() if isinstance(content, Exception)]
            for failure in failures:
                if not isinstance(failure, FileNotFoundError):
                    raise failure
            return {path: content for path, content in contents.items() if isinstance(content, bytes)}

        return self._with_retries(read) if paths else {}

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _kept(self, file: StoredFile) -> Path:
        return self._local / "content" / file.sha256[:2] / file.sha256

    def _kept_folder(self, files: Collection[StoredFile]) -> Path:
        listed = "".join(f"{file.path}\0{file.sha256}\n" for file in files)
        return self._local / "folders" / sha256(listed.encode()).hexdigest()[:32]

    def _is_good(self, copy: Path, file: StoredFile) -> bool:
        """Whether a local copy exists and matches the manifest."""
        try:
            stat = copy.stat()
            seen = (stat.st_size, stat.st_mtime_ns, file.sha256)
            if self._verified.get(copy) != seen:
                if not is_intact(copy, file):
                    return False
                self._verified[copy] = seen
        except FileNotFoundError:
            return False
        return True

    def _download(self, path: str, target: Path, file: StoredFile | None) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.tmp-{os.getpid()}")
        try:
            self._with_retries(lambda: self._fs.get_file(self._at(path), str(temporary)))
            if file and not is_intact(temporary, file):
                raise DamagedFile(file.path)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _with_retries(self, request: Callable[[], T]) -> T:
        """The result of a request, repeated while the store does not answer or refuses temporarily; in the end one
        error line.
        """
        for wait in (*_WAITS, None):
            try:
                return request()
            except (FileNotFoundError, FileExistsError):
                raise
            except PermissionError as error:
                raise ArtifactError(f"{self.url}: access denied ({error}); check the credentials") from None
            except Exception as error:
                if wait is None:
                    raise ConnectionError(f"{self.url} does not answer: {reason(error)}") from error
                time.sleep(wait)
        raise AssertionError


def _filesystem(url: str) -> tuple[Any, str]:
    protocol = url.split("://", 1)[0]
    try:
        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    except ImportError:
        raise SettingsError(
            f"artifacts.root: {protocol}:// needs its fsspec driver; install it (pip install s3fs for s3, gcsfs for gs)"
        ) from None
    except ValueError as error:
        raise SettingsError(f"artifacts.root: {url!r}: {reason(error)}") from None
    return filesystem, root.rstrip("/")
