"""Artifact partitions: atomic, content-addressed, resumable, on a local disk or an object store.

A partition is a folder `<root>/<asset>/<partition>/` with Parquet parts, optional folders, and a `manifest.json`
written last. File names begin with the first letters of the fingerprint under which they were made, and the manifest
lists its files; so a re-made partition replaces the old one in a single step, and a killed run is continued after its
last complete part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from instsynth_dagster.artifacts.costs import HOUR, Ledger, Meter
from instsynth_dagster.artifacts.manifest import MANIFEST, Manifest, StoredFile, partition_folder
from instsynth_dagster.artifacts.outside import COLUMNS, damaged_files
from instsynth_dagster.artifacts.rows import Parts, read_part_lazily
from instsynth_dagster.artifacts.snapshot import Snapshot, list_manifests
from instsynth_dagster.artifacts.storage import open_storage
from instsynth_dagster.artifacts.storage.base import DamagedFile, Lock
from instsynth_dagster.artifacts.writer import PartitionWriter
from instsynth_dagster.errors import ArtifactError, ArtifactReplaced, DamagedArtifact
from instsynth_dagster.settings import Settings

UNPARTITIONED = "all"
_ROWS_AT_ONCE = 16
_TRIES = 3
T = TypeVar("T")


class Store:
    """All artifact partitions under one root, a directory or the URL of an object store."""

    def __init__(self, root: Path | str, rows_per_part: int = 64, cache: Path = Path(".cache/artifacts")) -> None:
        """A store at `root`; `cache` keeps local copies of an object store's files and is unused for a local store."""
        self.root, self.cache = str(root), cache
        self.storage = open_storage(root, cache)
        self.rows_per_part = rows_per_part
        self.device_hours: float | None = None
        """Budget of the device for everything that was ever made in this store."""
        self.set_aside: list[str] = []
        """Files that this store has found damaged and put out of the way, or found missing."""

    def directory(self, asset: str, partition: str = UNPARTITIONED) -> Path:
        """The local directory in which a partition is made; on a local disk the partition itself."""
        return self.storage.staging_directory(partition_folder(asset, partition))

    def manifest(self, asset: str, partition: str = UNPARTITIONED) -> Manifest | None:
        """The manifest, or None when the partition does not exist (yet).

        Raises:
            DamagedArtifact: the manifest exists and cannot be read.
        """
        manifest = self._recorded(asset, partition)
        if manifest is None:
            return None
        paths = [file.path for file in manifest.files()]
        return manifest if self.storage.holds(partition_folder(asset, partition), paths) else None

    def snapshot(self, refs: Iterable[tuple[str, str]] | None = None) -> Snapshot:
        """The manifests as they are now, for reading many; of an object store they are read all at once.

        Args:
            refs: (asset, partition) of those that will be read; None for the whole store.
        """
        listing = list_manifests(self.storage, refs) if self.storage.remote else None
        return Snapshot(self.manifest, self._parsed, listing)

    def _recorded(self, asset: str, partition: str) -> Manifest | None:
        """The manifest, whether or not the files that it lists exist."""
        try:
            content = self.storage.read(f"{partition_folder(asset, partition)}/{MANIFEST}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            content = b""
        return self._parsed(asset, partition, content)

    def _parsed(self, asset: str, partition: str, content: bytes) -> Manifest:
        try:
            manifest = Manifest.from_json(content)
        except ValueError:
            manifest = None
        if manifest is None or (manifest.asset, manifest.partition) != (asset, partition):
            path = f"{self.storage.url}/{partition_folder(asset, partition)}/{MANIFEST}"
            raise DamagedArtifact(f"{path}: damaged manifest; refresh makes {asset}[{partition}] again")
        return manifest

    def require(self, asset: str, partition: str = UNPARTITIONED) -> Manifest:
        """The manifest of a partition.

        Raises:
            ArtifactError: the partition does not exist.
            DamagedArtifact: the manifest cannot be read.
        """
        return _existing(self.manifest(asset, partition), asset, partition)

    def _reading(self, asset: str, partition: str, read: Callable[[Manifest], T]) -> T:
        """The result of `read` on a partition's manifest, repeated where the partition is made again in the meantime.

        Raises:
            ArtifactError: the partition does not exist, or a file of it is damaged or missing.
        """
        for left in reversed(range(_TRIES)):
            manifest = _existing(self._recorded(asset, partition), asset, partition)
            try:
                with self._setting_damage_aside(manifest):
                    return read(manifest)
            except ArtifactReplaced:
                if not left:
                    raise
        raise AssertionError

    def read(self, asset: str, partition: str = UNPARTITIONED, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows of a partition, in order; every part's digest is checked first."""

        def read(manifest: Manifest) -> list[pa.Table]:
            paths = self._fetched(manifest, manifest.parts)
            return [pq.read_table(path, columns=list(columns) if columns else None) for path in paths]

        tables = self._reading(asset, partition, read)
        return (
            pa.concat_tables(tables, promote_options="permissive").to_pandas()
            if tables
            else pd.DataFrame(columns=list(columns or []))
        )

    def read_lazily(self, asset: str, partition: str) -> pd.DataFrame:
        """All rows of a partition, with a `StoredBytes` in place of every encoded image; images are read on demand, so
        that memory does not grow with the partition.
        """

        def read(manifest: Manifest) -> list[pd.DataFrame]:
            return [read_part_lazily(path) for path in self._fetched(manifest, manifest.parts)]

        tables = self._reading(asset, partition, read)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def parts(self, asset: str, partition: str = UNPARTITIONED) -> Parts:
        """The parts of a partition as they are now, for reading single rows."""
        return self._reading(asset, partition, lambda manifest: Parts(self._fetched(manifest, manifest.parts)))

    def read_many(
        self, asset: str, partitions: Iterable[str], columns: Sequence[str] | None = None, lazily: bool = False
    ) -> pd.DataFrame:
        """Rows of several partitions, concatenated (`read`, or `read_lazily` with `lazily`); empty partitions add
        nothing.
        """
        tables = [
            self.read_lazily(asset, partition) if lazily else self.read(asset, partition, columns)
            for partition in partitions
        ]
        filled = [table for table in tables if len(table)]
        return pd.concat(filled, ignore_index=True) if filled else (tables[0] if tables else pd.DataFrame())

    def iterate(self, asset: str, partition: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows one by one, with few in memory.

        Raises:
            ArtifactReplaced: the partition was made again before its last part was opened.
        """
        manifest = _existing(self._recorded(asset, partition), asset, partition)
        for part in manifest.parts:
            with self._setting_damage_aside(manifest):
                file = pq.ParquetFile(*self._fetched(manifest, [part]))
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns) if columns else None):
                yield from batch.to_pylist()

    def columns(self, asset: str, partition: str = UNPARTITIONED) -> list[tuple[str, str]]:
        """Names and types of a partition's columns; empty where it has no part."""

        def read(manifest: Manifest) -> list[tuple[str, str]]:
            paths = self._fetched(manifest, manifest.parts[:1])
            return [(field.name, str(field.type)) for path in paths for field in pq.read_schema(path)]

        return self._reading(asset, partition, read)

    def folder(self, asset: str, partition: str, name: str) -> Path:
        """A folder (a checkpoint, a report) of a finished partition, on the local disk, its digests checked."""

        def fetch(manifest: Manifest) -> Path:
            if name not in manifest.folders:
                raise ArtifactError(f"{asset}[{partition}] holds no folder {name!r}")
            files = manifest.folders[name]
            own = files[0].path.split("/", 1)[0] if files else f"{manifest.fingerprint[:12]}-{name}"
            return self.storage.fetch_folder(partition_folder(asset, partition), own, files)

        return self._reading(asset, partition, fetch)

    def verify(self, asset: str, partition: str = UNPARTITIONED) -> list[str]:
        """Problems with the files of a partition, a line each; empty where the partition does not exist.

        Every file is read in place, including those written outside the store. A damaged one is set aside, and a
        damaged local copy is removed.
        """
        try:
            manifest = self._recorded(asset, partition)
        except DamagedArtifact as error:
            return [str(error)]
        if manifest is None:
            return []
        found = []
        for file in manifest.files():
            try:
                with self._setting_damage_aside(manifest):
                    self.storage.verify(partition_folder(asset, partition), file)
            except DamagedArtifact as error:
                found.append(str(error))
            except ArtifactReplaced:
                return self.verify(asset, partition)
        found = list(dict.fromkeys(found))
        for directory, signature in manifest.outside.items() if not found else ():
            found += damaged_files(Path(directory), signature, self.iterate(asset, partition, COLUMNS))
        for files in (manifest.parts, *manifest.folders.values()):
            copies = self.storage.drop_damaged_copies(files)
            found += [f"{path}: damaged local copy, removed; it is fetched again when it is needed" for path in copies]
        return found

    def lock(self, asset: str, partition: str, log: Callable[[str], None]) -> AbstractContextManager[Lock]:
        """Hold a partition while it is made; wait while another run makes it."""
        holder = f"another run that makes {asset}[{partition}]"
        return self.storage.lock(partition_folder(asset, partition), holder, log)

    def write(
        self,
        asset: str,
        partition: str,
        fingerprint: str,
        components: Mapping[str, str] | None = None,
        lock: Lock | None = None,
        expected_seconds: float = 0.0,
        unchanged: Callable[[], None] | None = None,
    ) -> PartitionWriter:
        """A writer of a partition; see `PartitionWriter`.

        Args:
            components: digests of the parts of the fingerprint.
            expected_seconds: device seconds of the first piece of work; a budget that is too small for it refuses it.
            unchanged: raises ArtifactReplaced where an input of the partition has changed.
        """
        ledger = Ledger(self.storage)
        left = None if self.device_hours is None else self.device_hours * HOUR - ledger.spent()
        return PartitionWriter(
            self.storage,
            partition_folder(asset, partition),
            asset,
            partition,
            fingerprint,
            rows_per_part=self.rows_per_part,
            components=components or {},
            lock=lock,
            ledger=ledger,
            meter=Meter(left, expected_seconds),
            unchanged=unchanged,
        )

    def _fetched(self, manifest: Manifest, files: Iterable[StoredFile]) -> list[Path]:
        folder = partition_folder(manifest.asset, manifest.partition)
        return [self.storage.fetch(folder, file) for file in files]

    @contextmanager
    def _setting_damage_aside(self, manifest: Manifest) -> Iterator[None]:
        """Set a damaged file aside, and raise an error that names the damaged or missing files and the remedy."""
        asset, partition = manifest.asset, manifest.partition
        folder = partition_folder(asset, partition)
        try:
            yield
        except DamagedFile as damaged:
            self.storage.set_aside(folder, str(damaged))
            path = f"{folder}/{damaged}"
            self.set_aside.append(path)
            raise DamagedArtifact(
                f"{self.storage.url}/{path}: damaged, its digest differs from the manifest; it was set aside, refresh "
                f"makes {asset}[{partition}] again"
            ) from None
        except FileNotFoundError:
            existing = set(self.storage.names(folder))
            missing = [f"{folder}/{file.path}" for file in manifest.files() if file.path not in existing]
            if not missing or self._recorded(asset, partition) != manifest:
                raise ArtifactReplaced(f"{asset}[{partition}] was made again while it was read; try again") from None
            self.set_aside += missing
            raise DamagedArtifact(
                f"{self.storage.url}/{', '.join(missing)}: missing; refresh makes {asset}[{partition}] again"
            ) from None


def _existing(manifest: Manifest | None, asset: str, partition: str) -> Manifest:
    """The manifest; raises ArtifactError where it is None."""
    if manifest is None:
        raise ArtifactError(f"{asset}[{partition}] does not exist; materialise it first (job `refresh`)")
    return manifest


def open_store(settings: Settings) -> Store:
    """The store that the settings name, with their budget.

    Raises:
        SettingsError: the URL's protocol is unknown, or its package is not installed.
    """
    store = Store(settings.artifacts.root, cache=settings.artifacts.cache)
    store.device_hours = settings.costs.device_hours
    return store
