"""Artifact partitions on disk: atomic, content-addressed, resumable.

A partition is a directory `<root>/<asset>/<partition>/` with Parquet parts, optional folders, and a `manifest.json`
written last. Files carry the first letters of the fingerprint they were made under and the manifest names its files, so
a re-made partition replaces the old one in a single rename and a killed run is continued after its last whole part.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from instsynth_dagster.errors import ArtifactError
from instsynth_dagster.files import file_sha256, write_atomically
from instsynth_dagster.listing import listing_signature

VOLATILE_COLUMNS = frozenset({"device_seconds", "perceptual_hash", "mirrored_hash"})
"""Columns that do not enter the content digest: they tell how a row was made, or follow from a digest in it."""

MANIFEST = "manifest.json"
UNPARTITIONED = "all"
_RECORDED_PACKAGES = ("instsynth-dagster", "torch", "diffusers", "transformers", "numpy", "opencv-python-headless")


@dataclass(frozen=True)
class StoredFile:
    """One file of a partition; `path` is relative to the partition's directory."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished partition holds. `digest` names its content, `fingerprint` everything it was made from.

    `outside` maps directories that the partition wrote outside the store to their listing signatures; `components` are
    digests of the parts of the fingerprint, which tell what changed when it no longer fits.
    """

    asset: str
    partition: str
    fingerprint: str
    digest: str
    rows: int
    parts: tuple[StoredFile, ...]
    folders: dict[str, tuple[StoredFile, ...]]
    outside: dict[str, str]
    summary: dict[str, Any]
    wall_seconds: float
    device_seconds: float
    made_at: str
    versions: dict[str, str] = field(default_factory=dict)
    components: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        raw = json.loads(text)
        raw["parts"] = tuple(StoredFile(**part) for part in raw["parts"])
        raw["folders"] = {name: tuple(StoredFile(**f) for f in files) for name, files in raw["folders"].items()}
        return cls(**raw)


class Store:
    """All artifact partitions under one root directory."""

    def __init__(self, root: Path, rows_per_part: int = 64) -> None:
        self.root = Path(root)
        self.rows_per_part = rows_per_part

    def directory(self, asset: str, partition: str = UNPARTITIONED) -> Path:
        """Directory of a partition; `aachen|car` becomes `aachen/car`."""
        steps = [*asset.split("/"), *partition.split("|")]
        if any(step in ("", ".", "..") or os.sep in step for step in steps):
            raise ArtifactError(f"{asset}[{partition}]: not a usable artifact name")
        return self.root.joinpath(*steps)

    def manifest(self, asset: str, partition: str = UNPARTITIONED) -> Manifest | None:
        """The manifest, or None when the partition does not exist (yet)."""
        path = self.directory(asset, partition) / MANIFEST
        try:
            manifest = Manifest.from_json(path.read_text())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{path}: damaged manifest ({error}); delete the folder and refresh") from None
        whole = all((path.parent / file.path).exists() for file in _files_of(manifest))
        return manifest if whole else None

    def require(self, asset: str, partition: str = UNPARTITIONED) -> Manifest:
        manifest = self.manifest(asset, partition)
        if manifest is None:
            raise ArtifactError(f"{asset}[{partition}] does not exist; materialise it first (job `refresh`)")
        return manifest

    def read(self, asset: str, partition: str = UNPARTITIONED, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All rows of a partition, in order; every part's digest is checked first."""
        manifest = self.require(asset, partition)
        tables = []
        for part in manifest.parts:
            path = self.directory(asset, partition) / part.path
            if file_sha256(path) != part.sha256:
                raise ArtifactError(f"{path}: damaged, its digest differs from the manifest; delete it and refresh")
            tables.append(pq.read_table(path, columns=list(columns) if columns else None))
        return (
            pa.concat_tables(tables, promote_options="permissive").to_pandas()
            if tables
            else pd.DataFrame(columns=list(columns or []))
        )

    def read_many(self, asset: str, partitions: Iterable[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Rows of several partitions after one another; empty partitions add nothing."""
        tables = [self.read(asset, partition, columns) for partition in partitions]
        filled = [table for table in tables if len(table)]
        return pd.concat(filled, ignore_index=True) if filled else (tables[0] if tables else pd.DataFrame())

    def iterate(self, asset: str, partition: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """Rows one by one, holding a single row group in memory."""
        for part in self.require(asset, partition).parts:
            file = pq.ParquetFile(self.directory(asset, partition) / part.path)
            for batch in file.iter_batches(batch_size=16, columns=list(columns) if columns else None):
                yield from batch.to_pylist()

    def columns(self, asset: str, partition: str = UNPARTITIONED) -> list[tuple[str, str]]:
        """Names and types of a partition's columns; none where it has no part."""
        parts = self.require(asset, partition).parts
        if not parts:
            return []
        schema = pq.read_schema(self.directory(asset, partition) / parts[0].path)
        return [(field.name, str(field.type)) for field in schema]

    def folder(self, asset: str, partition: str, name: str) -> Path:
        """A folder (a checkpoint, a report) of a finished partition."""
        manifest = self.require(asset, partition)
        if name not in manifest.folders:
            raise ArtifactError(f"{asset}[{partition}] holds no folder {name!r}")
        return self.directory(asset, partition) / f"{manifest.fingerprint[:12]}-{name}"

    def write(
        self, asset: str, partition: str, fingerprint: str, components: Mapping[str, str] | None = None
    ) -> PartitionWriter:
        """Open a partition for writing; see `PartitionWriter`."""
        writer = PartitionWriter(self.directory(asset, partition), asset, partition, fingerprint, self.rows_per_part)
        writer.components = dict(components or {})
        return writer


class PartitionWriter:
    """Context manager that makes one partition: leaving it normally commits, an exception leaves what stood before.

    `resumed_rows` rows of an earlier, killed run under the same fingerprint are already there; the caller goes on after
    them. Folders are handed out as paths to fill and survive a kill as well.
    """

    def __init__(self, directory: Path, asset: str, partition: str, fingerprint: str, rows_per_part: int) -> None:
        self.directory, self.asset, self.partition, self.fingerprint = directory, asset, partition, fingerprint
        self.summary: dict[str, Any] = {}
        self.components: dict[str, str] = {}
        self.device_seconds = 0.0
        self._rows_per_part = rows_per_part
        self._pending: list[Mapping[str, Any]] = []
        self._parts: list[tuple[StoredFile, int, str]] = []
        self._folders: list[str] = []
        self._outside: list[Path] = []
        self._resumed_parts = 0

    def __enter__(self) -> PartitionWriter:
        self._started = time.monotonic()
        self.directory.mkdir(parents=True, exist_ok=True)
        while (path := self._part_path(len(self._parts))).exists():
            table = pq.read_table(path)
            if "device_seconds" in table.column_names:
                self.device_seconds += sum(table["device_seconds"].to_pylist())
            self._parts.append((_stored(path, self.directory), len(table), content_digest(table)))
        self._resumed_parts = len(self._parts)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._commit()

    @property
    def resumed_rows(self) -> int:
        return sum(rows for _, rows, _ in self._parts)

    @property
    def rows(self) -> int:
        return self.resumed_rows + len(self._pending)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; a full part goes to disk at once."""
        self._pending.append(row)
        self.device_seconds += row.get("device_seconds", 0.0)
        if len(self._pending) >= self._rows_per_part:
            self._flush()

    def add_table(self, table: pd.DataFrame) -> None:
        """Append a whole table as one part; what a killed run left is made again."""
        self._drop_resumed()
        self._write_part(pa.Table.from_pandas(table, preserve_index=False), row_group_size=None)

    def _drop_resumed(self) -> None:
        for part, _, _ in self._parts[: self._resumed_parts]:
            (self.directory / part.path).unlink()
        del self._parts[: self._resumed_parts]
        self._resumed_parts = 0

    def folder(self, name: str) -> Path:
        """A directory that becomes part of the partition."""
        self._folders.append(name)
        path = self.directory / f"{self.fingerprint[:12]}-{name}"
        path.mkdir(exist_ok=True)
        return path

    def promise(self, directory: Path) -> None:
        """Declare a directory written outside the store; the partition is stale when its listing changes."""
        self._outside.append(directory)

    def scratch(self) -> Path:
        """A directory for state that only a resumed run needs; gone after the commit."""
        path = self.directory / f"{self.fingerprint[:12]}.scratch"
        path.mkdir(exist_ok=True)
        return path

    def _part_path(self, index: int) -> Path:
        return self.directory / f"{self.fingerprint[:12]}-{index:05d}.parquet"

    def _flush(self) -> None:
        if self._pending:
            # one row per row group: training reads windows at random
            self._write_part(pa.Table.from_pylist([dict(row) for row in self._pending]), row_group_size=1)
            self._pending = []

    def _write_part(self, table: pa.Table, row_group_size: int | None) -> None:
        path = self._part_path(len(self._parts))
        temporary = path.with_suffix(f".tmp-{os.getpid()}")
        pq.write_table(table, temporary, compression="zstd", row_group_size=row_group_size)
        os.replace(temporary, path)
        self._parts.append((_stored(path, self.directory), len(table), content_digest(table)))

    def _commit(self) -> None:
        self._flush()
        shutil.rmtree(self.directory / f"{self.fingerprint[:12]}.scratch", ignore_errors=True)
        folders = {name: _stored_folder(self.folder(name), self.directory) for name in dict.fromkeys(self._folders)}
        digest = hashlib.sha256()
        for _, _, part_digest in self._parts:
            digest.update(bytes.fromhex(part_digest))
        for name, files in folders.items():
            for file in files:
                inner = file.path.split("/", 1)[1]
                digest.update(f"{name}/{inner}\0{file.sha256}\n".encode())
        manifest = Manifest(
            asset=self.asset,
            partition=self.partition,
            fingerprint=self.fingerprint,
            digest=digest.hexdigest(),
            rows=self.resumed_rows,
            parts=tuple(part for part, _, _ in self._parts),
            folders=folders,
            outside={str(path): listing_signature([path]) for path in self._outside},
            summary=self.summary,
            wall_seconds=round(time.monotonic() - self._started, 3),
            device_seconds=round(self.device_seconds, 3),
            made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            versions=_package_versions(),
            components=self.components,
        )
        write_atomically(self.directory / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        self._sweep(manifest)

    def _sweep(self, manifest: Manifest) -> None:
        """Remove what earlier fingerprints and killed runs left."""
        keep = {MANIFEST, *(file.path.split("/", 1)[0] for file in _files_of(manifest))}
        for path in self.directory.iterdir():
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def content_digest(table: pa.Table) -> str:
    """sha256 over names, types and values of a table, volatile columns left out; independent of Parquet's encoding."""
    digest = hashlib.sha256()
    for name in sorted(set(table.column_names) - VOLATILE_COLUMNS):
        column = table[name]
        digest.update(f"{name}\0{column.type}\0{len(column)}\n".encode())
        for value in column.to_pylist():
            payload = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(len(payload).to_bytes(8, "little"))
            digest.update(payload)
    return digest.hexdigest()


def _files_of(manifest: Manifest) -> Iterator[StoredFile]:
    yield from manifest.parts
    for files in manifest.folders.values():
        yield from files


def _stored(path: Path, base: Path) -> StoredFile:
    return StoredFile(path.relative_to(base).as_posix(), path.stat().st_size, file_sha256(path))


def _stored_folder(folder: Path, base: Path) -> tuple[StoredFile, ...]:
    return tuple(_stored(path, base) for path in sorted(folder.rglob("*")) if path.is_file())


@cache
def _package_versions() -> dict[str, str]:
    return {name: version(name) for name in _RECORDED_PACKAGES}
