"""The writer of one artifact partition: rows go to disk part by part, the manifest comes last."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from instsynth_dagster.artifacts.costs import Ledger, Meter
from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.artifacts.manifest import MANIFEST, Manifest, StoredFile
from instsynth_dagster.artifacts.storage.base import Lock, Storage
from instsynth_dagster.data.versions import listing_signature
from instsynth_dagster.errors import ArtifactReplaced

VOLATILE_COLUMNS = frozenset({"device_seconds", "perceptual_hash", "mirrored_hash"})
"""Columns outside the content digest: they describe how a row was made, or follow from a digest in it."""

PREVIEWS, PAGES = "previews", "report"
"""Folders of files that are only for display: they do not enter the content digest either."""
PIECE = "device_piece_seconds"
"""Entry of the summary: seconds of the longest uninterrupted piece of work on the device."""
_ROWS_AT_ONCE = 16
_RECORDED_PACKAGES = ("instsynth-dagster", "torch", "diffusers", "transformers", "numpy", "opencv-python-headless")


class PartitionWriter:
    """Context manager that makes one partition: a normal exit commits it, an exception leaves the previous one in
    place.

    `resumed_rows` rows of an earlier, interrupted run under the same fingerprint exist already; the caller continues
    after them. Folders are handed out as paths to fill and survive a kill as well.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        asset: str,
        partition: str,
        fingerprint: str,
        *,
        rows_per_part: int,
        components: Mapping[str, str],
        lock: Lock | None,
        ledger: Ledger,
        meter: Meter,
        unchanged: Callable[[], None] | None = None,
    ) -> None:
        """A writer; `unchanged` raises where an input of the rows has changed, and then nothing is kept."""
        self.asset, self.partition, self.fingerprint = asset, partition, fingerprint
        self.summary: dict[str, Any] = {}
        self.device_seconds = 0.0
        self.meter = meter
        self._storage, self._folder, self._lock = storage, folder, lock
        self._unchanged = unchanged or (lambda: None)
        self._components, self._rows_per_part, self._ledger = components, rows_per_part, ledger
        self._prefix = fingerprint[:12]
        self._pending: list[Mapping[str, Any]] = []
        self._carried: pa.Table | None = None
        self._parts: list[tuple[StoredFile, int, str]] = []
        self._folders: list[str] = []
        self._outside: list[Path] = []
        self._resumed_parts = self.resumed_rows = 0
        self._scratch: Path | None = None
        self._open = ExitStack()

    def __enter__(self) -> PartitionWriter:
        self._started = time.monotonic()
        self.directory = self._storage.staging_directory(self._folder)
        self._resume()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            try:
                if kind is None:
                    self._commit()
                else:
                    self._keep_pending()
            except ArtifactReplaced:
                self._discard()
                self._note_costs(finished=False)
                if kind is None:
                    raise
            else:
                self._note_costs(finished=kind is None)

    @property
    def rows(self) -> int:
        """Rows so far, resumed ones included."""
        carried = len(self._carried) if self._carried is not None else 0
        return sum(rows for _, rows, _ in self._parts) + carried + len(self._pending)

    def stored_rows(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows so far, resumed ones included, in order, with few in memory at once; with those of `columns` that
        exist.

        Summaries and previews are made from these, so that a resumed partition reports the same as an undisturbed one.
        """
        wanted = list(columns) if columns else None
        for part, _, _ in self._parts:
            file = pq.ParquetFile(self._storage.fetch(self._folder, part))
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=wanted):
                yield from batch.to_pylist()
        for row in (*(self._carried.to_pylist() if self._carried is not None else ()), *self._pending):
            yield {name: row[name] for name in wanted or row if name in row}

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; a full part is stored at once."""
        self._pending.append(row)
        self.device_seconds += row.get("device_seconds", 0.0)
        if self.rows % self._rows_per_part == 0:
            self._flush()

    def add_table(self, table: pd.DataFrame) -> None:
        """Append a whole table as one part; after a kill it is added again."""
        self._discard_resumed_rows()
        self._write_part(pa.Table.from_pandas(table, preserve_index=False), row_group_size=None)

    def folder(self, name: str) -> Path:
        """A directory that becomes part of the partition."""
        self._folders.append(name)
        path = self.directory / f"{self._prefix}-{name}"
        path.mkdir(exist_ok=True)
        return path

    def declare_directory(self, directory: Path) -> None:
        """Record a directory written outside the store; the partition becomes stale when its listing changes.

        The rows list its files (`outside.COLUMNS`).
        """
        self._outside.append(directory)

    def scratch(self) -> Path:
        """A directory for state that only a resumed run needs; removed after the commit."""
        if self._scratch is None:
            self._scratch = self._open.enter_context(
                self._storage.scratch_directory(self._folder, f"{self._prefix}.scratch")
            )
        return self._scratch

    def _resume(self) -> None:
        """Take over the rows of an earlier run: its parts up to the first that is missing or damaged, and later rows
        that fill no part yet.
        """
        existing = self._storage.entries(self._folder)
        while part := self._intact_part(f"{self._prefix}-{len(self._parts):05d}.", existing):
            stored, table = part
            self.device_seconds += _device_seconds(table)
            self._parts.append((stored, len(table), content_digest(table)))
        left = {name for name in existing if name.startswith(f"{self._prefix}-") and name.endswith(".parquet")}
        self._storage.remove(self._folder, left - {part.path for part, _, _ in self._parts})
        self._resumed_parts = len(self._parts)
        if pending := self._intact_part(f"{self._prefix}.{len(self._parts):05d}.", existing):
            self._carried = pending[1]
            self.device_seconds += _device_seconds(self._carried)
        self.resumed_rows = self.rows

    def _intact_part(self, beginning: str, existing: set[str]) -> tuple[StoredFile, pa.Table] | None:
        """A Parquet file of an earlier run, if its content still matches the digest in its name."""
        for name in existing:
            if name.startswith(beginning) and name.endswith(".parquet"):
                path = self._storage.copy(f"{self._folder}/{name}")
                stored = _stored(path, name)
                if stored.sha256.startswith(name.split(".")[-2]):
                    return stored, pq.read_table(path)
        return None

    def _discard(self) -> None:
        """Remove everything from which a later run could continue."""
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        entries = self._storage.entries(self._folder)
        self._storage.remove(self._folder, {name for name in entries if name.startswith(self._prefix)})

    def _keep_pending(self) -> None:
        self._unchanged()
        if (table := self._pending_table()) is not None:
            self._publish_table(table, f"{self._prefix}.{len(self._parts):05d}", row_group_size=None)

    def _pending_table(self) -> pa.Table | None:
        """Rows that fill no part yet; resumed ones keep their types, which the digest depends on."""
        new = pa.Table.from_pylist([dict(row) for row in self._pending]) if self._pending else None
        tables = [table for table in (self._carried, new) if table is not None]
        return pa.concat_tables(tables, promote_options="permissive") if tables else None

    def _note_costs(self, finished: bool) -> None:
        """Record this attempt's device seconds, and those that a killed attempt before it could not record."""
        if not max(self.meter.used, self.device_seconds):
            return
        before = self._ledger.unfinished(self._folder, self.fingerprint)
        seconds = max(self.meter.used, self.device_seconds - before)
        if seconds > 0:
            self._ledger.note(self._folder, self.fingerprint, seconds, finished)

    def _discard_resumed_rows(self) -> None:
        self._storage.remove(self._folder, [part.path for part, _, _ in self._parts[: self._resumed_parts]])
        del self._parts[: self._resumed_parts]
        self._resumed_parts = self.resumed_rows = 0
        self._carried = None

    def _flush(self) -> None:
        if (table := self._pending_table()) is not None:
            # one row per row group, because training reads windows in random order
            self._write_part(table, row_group_size=1)
            self._pending, self._carried = [], None

    def _write_part(self, table: pa.Table, row_group_size: int | None) -> None:
        stored = self._publish_table(table, f"{self._prefix}-{len(self._parts):05d}", row_group_size)
        self._parts.append((stored, len(table), content_digest(table)))

    def _publish_table(self, table: pa.Table, name: str, row_group_size: int | None) -> StoredFile:
        """Put a table into the store under a name that ends with its digest; no manifest lists it yet, and a later run
        continues from it.
        """
        self._unchanged()
        temporary = self.directory / f"{name}.tmp-{os.getpid()}"
        try:
            # in groups of one row, statistics and dictionaries would duplicate the row
            pq.write_table(
                table,
                temporary,
                compression="zstd",
                row_group_size=row_group_size,
                write_statistics=False,
                use_dictionary=row_group_size is None,
            )
            stored = _stored(temporary, name)
            stored = replace(stored, path=f"{name}.{stored.sha256[:16]}.parquet")
            self._storage.publish(self._folder, temporary, stored)
        finally:
            temporary.unlink(missing_ok=True)  # frees the space on a full disk
        return stored

    def _commit(self) -> None:
        self._flush()
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)
        folders = {name: self._publish_folder(name) for name in dict.fromkeys(self._folders)}
        digest = hashlib.sha256()
        for _, _, part_digest in self._parts:
            digest.update(bytes.fromhex(part_digest))
        for name, files in folders.items():
            for file in files if name not in (PREVIEWS, PAGES) else ():
                inner = file.path.split("/", 1)[1]
                digest.update(f"{name}/{inner}\0{file.sha256}\n".encode())
        self.device_seconds = max(self.device_seconds, self.meter.used)
        if self.meter.longest:
            self.summary[PIECE] = round(self.meter.longest, 3)
        manifest = Manifest(
            asset=self.asset,
            partition=self.partition,
            fingerprint=self.fingerprint,
            digest=digest.hexdigest(),
            rows=self.rows,
            parts=tuple(part for part, _, _ in self._parts),
            folders=folders,
            outside={str(path): listing_signature([path]) for path in self._outside},
            summary=self.summary,
            wall_seconds=round(time.monotonic() - self._started, 3),
            device_seconds=round(self.device_seconds, 3),
            made_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            versions=_package_versions(),
            components=dict(self._components),
        )
        if self._lock:
            self._lock.check()
        self._unchanged()
        if self._lock:
            self._lock.check()  # once more: checking the inputs may have taken long
        self._storage.write(f"{self._folder}/{MANIFEST}", manifest.to_json())
        self._remove_leftovers(manifest)

    def _publish_folder(self, name: str) -> tuple[StoredFile, ...]:
        folder = self.directory / f"{self._prefix}-{name}"
        stored = []
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                stored.append(_stored(path, path.relative_to(self.directory).as_posix()))
                self._storage.publish(self._folder, path, stored[-1])
        return tuple(stored)

    def _remove_leftovers(self, manifest: Manifest) -> None:
        """Remove the files of earlier fingerprints and killed runs."""
        keep = {MANIFEST, *(file.path.split("/", 1)[0] for file in manifest.files())}
        self._storage.remove(self._folder, self._storage.entries(self._folder) - keep)


def content_digest(table: pa.Table) -> str:
    """sha256 over names, types and values of a table without its volatile columns; independent of Parquet's
    encoding.
    """
    digest = hashlib.sha256()
    for name in sorted(set(table.column_names) - VOLATILE_COLUMNS):
        column = table[name]
        digest.update(f"{name}\0{_type_name(column.type)}\0{len(column)}\n".encode())
        for value in column.to_pylist():
            payload = value if isinstance(value, bytes) else repr(value).encode()
            digest.update(len(payload).to_bytes(8, "little"))
            digest.update(payload)
    return digest.hexdigest()


def _type_name(kind: pa.DataType) -> str:
    """Arrow's name of a type, the same before and after Parquet, which renames the items of a list."""
    if pa.types.is_list(kind):
        return f"list<item: {_type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {_type_name(field.type)}' for field in kind)}>"
    return str(kind)


def _device_seconds(table: pa.Table) -> float:
    return sum(table["device_seconds"].to_pylist()) if "device_seconds" in table.column_names else 0.0


def _stored(path: Path, name: str) -> StoredFile:
    return StoredFile(name, path.stat().st_size, file_sha256(path))


@cache
def _package_versions() -> dict[str, str]:
    return {name: version(name) for name in _RECORDED_PACKAGES}
