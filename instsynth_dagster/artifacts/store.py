"""Artifact partitions: atomic, content-addressed, resumable, on a local disk or an object store.

A partition is a folder `<root>/<asset>/<partition>/` with Parquet parts, optional folders, and a `manifest.json`
written last. Files carry the first letters of the fingerprint they were made under and the manifest names its files, so
a re-made partition replaces the old one in a single step and a killed run is continued after its last whole part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from instsynth_dagster.artifacts.costs import HOUR, Ledger, Meter
from instsynth_dagster.artifacts.manifest import MANIFEST, Manifest, StoredFile
from instsynth_dagster.artifacts.storage import open_storage
from instsynth_dagster.artifacts.storage.base import DamagedFile, Lock
from instsynth_dagster.artifacts.writer import PartitionWriter
from instsynth_dagster.errors import ArtifactError, DamagedArtifact
from instsynth_dagster.settings import Settings

UNPARTITIONED = "all"
_ROWS_AT_ONCE = 16
_LONGEST_NAME = 200
"""Bytes; what file systems allow, with room for endings."""


class Store:
    """All artifact partitions under one root, a directory or the URL of an object store."""

    def __init__(self, root: Path | str, rows_per_part: int = 64, cache: Path = Path(".cache/artifacts")) -> None:
        """`cache` keeps local copies of an object store's files; a local store has none."""
        self.storage = open_storage(root, cache)
        self.rows_per_part = rows_per_part
        self.device_hours: float | None = None
        """Budget of the device for everything that was ever made in this store."""
        self.set_aside: list[str] = []
        """Damaged files that this store has found and put out of the way."""

    def directory(self, asset: str, partition: str = UNPARTITIONED) -> Path:
        """The local directory in which a partition is made; on a disk the partition itself."""
        return self.storage.workplace(partition_folder(asset, partition))

    def manifest(self, asset: str, partition: str = UNPARTITIONED) -> Manifest | None:
        """The manifest, or None when the partition does not exist (yet).

        Raises:
            DamagedArtifact: the manifest is there and cannot be read.
        """
        folder = partition_folder(asset, partition)
        try:
            content = self.storage.read(f"{folder}/{MANIFEST}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except IsADirectoryError:
            content = b""
        manifest = self._parsed(asset, partition, content)
        return manifest if self.storage.holds(folder, [file.path for file in manifest.files()]) else None

    def snapshot(self) -> Snapshot:
        """The manifests as they are now, for looking at many; on an object store they are read all at once."""
        return Snapshot(self, self.storage.read_all("", MANIFEST) if self.storage.remote else None)

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
        manifest = self.manifest(asset, partition)
        if manifest is None:
            raise ArtifactError(f"{asset}[{partition}] does not exist; materialise it first (job `refresh`)")
        return manifest

    def read(self, asset: str, partition: str = UNPARTITIONED, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows of a partition, in order; every part's digest is checked first."""
        manifest = self.require(asset, partition)
        tables = [
            pq.read_table(path, columns=list(columns) if columns else None)
            for path in self._fetched(manifest, manifest.parts)
        ]
        return (
            pa.concat_tables(tables, promote_options="permissive").to_pandas()
            if tables
            else pd.DataFrame(columns=list(columns or []))
        )

    def read_lightly(self, asset: str, partition: str) -> pd.DataFrame:
        """All rows of a partition, with a `StoredBytes` in place of every encoded image: they are read when they are
        needed, so that memory does not grow with the partition."""
        manifest = self.require(asset, partition)
        tables = []
        for path in self._fetched(manifest, manifest.parts):
            file = pq.ParquetFile(path)
            heavy = [field.name for field in file.schema_arrow if pa.types.is_binary(field.type)]
            table = file.read([name for name in file.schema_arrow.names if name not in heavy]).to_pandas()
            for name in heavy:
                table[name] = pd.Series([StoredBytes(path, row, name) for row in range(len(table))], dtype=object)
            tables.append(table[file.schema_arrow.names])
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def parts(self, asset: str, partition: str = UNPARTITIONED) -> Parts:
        """The parts of a partition as they are now, for reading single rows."""
        manifest = self.require(asset, partition)
        return Parts(self._fetched(manifest, manifest.parts))

    def read_many(
        self, asset: str, partitions: Iterable[str], columns: Sequence[str] | None = None, lightly: bool = False
    ) -> pd.DataFrame:
        """Rows of several partitions after one another (`read`, or `read_lightly`); empty partitions add nothing."""
        tables = [
            self.read_lightly(asset, partition) if lightly else self.read(asset, partition, columns)
            for partition in partitions
        ]
        filled = [table for table in tables if len(table)]
        return pd.concat(filled, ignore_index=True) if filled else (tables[0] if tables else pd.DataFrame())

    def iterate(self, asset: str, partition: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows one by one, holding few in memory."""
        manifest = self.require(asset, partition)
        for index in range(len(manifest.parts)):
            file = pq.ParquetFile(self._fetched(manifest, manifest.parts[index : index + 1])[0])
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(columns) if columns else None):
                yield from batch.to_pylist()

    def columns(self, asset: str, partition: str = UNPARTITIONED) -> list[tuple[str, str]]:
        """Names and types of a partition's columns; none where it has no part."""
        manifest = self.require(asset, partition)
        if not manifest.parts:
            return []
        schema = pq.read_schema(self._fetched(manifest, manifest.parts[:1])[0])
        return [(field.name, str(field.type)) for field in schema]

    def folder(self, asset: str, partition: str, name: str) -> Path:
        """A folder (a checkpoint, a report) of a finished partition, on the local disk, its digests checked."""
        manifest = self.require(asset, partition)
        if name not in manifest.folders:
            raise ArtifactError(f"{asset}[{partition}] holds no folder {name!r}")
        within, files = partition_folder(asset, partition), manifest.folders[name]
        own = files[0].path.split("/", 1)[0] if files else f"{manifest.fingerprint[:12]}-{name}"
        with self._naming_damage(manifest):
            return self.storage.fetch_folder(within, own, files)

    def verify(self, asset: str, partition: str = UNPARTITIONED) -> None:
        """Check the digest of every file of a partition.

        Raises:
            DamagedArtifact: naming the first that is not what it was; it is set aside.
        """
        manifest = self.require(asset, partition)
        self._fetched(manifest, manifest.files())

    def lock(self, asset: str, partition: str, say: Callable[[str], None]) -> AbstractContextManager[Lock]:
        """Hold a partition while it is made; wait while another run makes it."""
        holder = f"another run that makes {asset}[{partition}]"
        return self.storage.lock(partition_folder(asset, partition), holder, say)

    def write(
        self,
        asset: str,
        partition: str,
        fingerprint: str,
        components: Mapping[str, str] | None = None,
        lock: Lock | None = None,
        expected_seconds: float = 0.0,
    ) -> PartitionWriter:
        """Open a partition for writing; see `PartitionWriter`.

        Args:
            components: of the fingerprint.
            expected_seconds: of the device, for the first piece of work; a budget that does not hold it refuses it.
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
        )

    def _fetched(self, manifest: Manifest, files: Iterable[StoredFile]) -> list[Path]:
        folder = partition_folder(manifest.asset, manifest.partition)
        with self._naming_damage(manifest):
            return [self.storage.fetch(folder, file) for file in files]

    @contextmanager
    def _naming_damage(self, manifest: Manifest) -> Iterator[None]:
        """Set a damaged file aside, and name it and what makes it again."""
        try:
            yield
        except DamagedFile as damaged:
            folder = partition_folder(manifest.asset, manifest.partition)
            self.storage.set_aside(folder, str(damaged))
            path = f"{folder}/{damaged}"
            self.set_aside.append(path)
            raise DamagedArtifact(
                f"{self.storage.url}/{path}: damaged, its digest is not the manifest's; it was set aside, and refresh "
                f"makes {manifest.asset}[{manifest.partition}] again"
            ) from None


class StoredBytes:
    """An encoded image that stays in its file until `bytes()` asks for it."""

    __slots__ = ("_column", "_path", "_row")

    def __init__(self, path: Path, row: int, column: str) -> None:
        self._path, self._row, self._column = path, row, column

    def __bytes__(self) -> bytes:
        file = opened(self._path)
        group, within = (self._row, 0) if file.num_row_groups > 1 else (0, self._row)
        return file.read_row_group(group, columns=[self._column])[self._column][within].as_py()


class Parts:
    """Rows of a partition by number; they were added one by one, so all parts but the last are of one length."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def stored_bytes(self, row: int, column: str) -> StoredBytes:
        part, within = self._located(row)
        return StoredBytes(self._paths[part], within, column)

    def __getitem__(self, row: int) -> dict[str, Any]:
        part, within = self._located(row)
        return opened(self._paths[part]).read_row_group(within).to_pylist()[0]

    def _located(self, row: int) -> tuple[int, int]:
        return divmod(row, opened(self._paths[0]).metadata.num_rows)


@lru_cache(maxsize=64)
def opened(path: Path) -> pq.ParquetFile:
    """A Parquet file whose footer has been read; files of the store are never changed in place."""
    return pq.ParquetFile(path)


class Snapshot:
    """`Store.manifest`, remembered."""

    def __init__(self, store: Store, contents: Mapping[str, bytes] | None) -> None:
        self._store, self._contents = store, contents
        self._known: dict[tuple[str, str], Manifest | None] = {}
        self._fresh: set[str] = set()

    def __call__(self, asset: str, partition: str) -> Manifest | None:
        if (asset, partition) not in self._known:
            self._known[asset, partition] = self._look(asset, partition)
        return self._known[asset, partition]

    def forget(self, asset: str) -> None:
        """Look at an asset anew: its partitions may have been made since."""
        self._fresh.add(asset)
        for key in [key for key in self._known if key[0] == asset]:
            del self._known[key]

    def _look(self, asset: str, partition: str) -> Manifest | None:
        if self._contents is None or asset in self._fresh:
            return self._store.manifest(asset, partition)
        content = self._contents.get(f"{partition_folder(asset, partition)}/{MANIFEST}")
        return None if content is None else self._store._parsed(asset, partition, content)


def partition_folder(asset: str, partition: str) -> str:
    """Where a partition lies, relative to the root: `aachen|car` becomes `aachen/car`."""
    steps = [*asset.split("/"), *partition.split("|")]
    if not all(map(_is_name, steps)):
        raise ArtifactError(f"{asset}[{partition}]: not a usable artifact name")
    return "/".join(steps)


def _is_name(step: str) -> bool:
    return step not in ("", ".", "..") and not set(step) & {os.sep, "\\", "\0"} and len(step.encode()) < _LONGEST_NAME


def open_store(settings: Settings) -> Store:
    """The store that the settings name, with their budget.

    Raises:
        SettingsError: the URL's protocol is unknown or its package is not installed.
    """
    store = Store(settings.artifacts.root, cache=settings.artifacts.cache)
    store.device_hours = settings.costs.device_hours
    return store
