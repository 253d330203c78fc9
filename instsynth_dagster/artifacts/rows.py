"""Rows of a partition's Parquet parts, read on demand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from instsynth_dagster.errors import ArtifactReplaced, DamagedArtifact


class StoredBytes:
    """An encoded image that is read from its file only when `bytes()` is called on it.

    Raises:
        ArtifactReplaced: the file is gone, because its partition was made again.
        DamagedArtifact: the file has been damaged since it was listed.
    """

    __slots__ = ("_column", "_path", "_row")

    def __init__(self, path: Path, row: int, column: str) -> None:
        self._path, self._row, self._column = path, row, column

    def __bytes__(self) -> bytes:
        with opened(self._path) as file:
            group, within = (self._row, 0) if file.num_row_groups > 1 else (0, self._row)
            return file.read_row_group(group, columns=[self._column])[self._column][within].as_py()


class Parts:
    """Rows of a partition by number; all parts but the last have the same number of rows.

    The rows are those at the time at which the parts were listed; reading raises the errors of `StoredBytes`.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def stored_bytes(self, row: int, column: str) -> StoredBytes:
        """The encoded image in a column of a row, to be read on demand."""
        part, within = self._located(row)
        return StoredBytes(self._paths[part], within, column)

    def __getitem__(self, row: int) -> dict[str, Any]:
        part, within = self._located(row)
        with opened(self._paths[part]) as file:
            return file.read_row_group(within).to_pylist()[0]

    def _located(self, row: int) -> tuple[int, int]:
        with opened(self._paths[0]) as file:
            return divmod(row, file.metadata.num_rows)


def read_part_lazily(path: Path) -> pd.DataFrame:
    """The rows of a part, with a `StoredBytes` in place of every encoded image."""
    file = pq.ParquetFile(path)
    heavy = [field.name for field in file.schema_arrow if pa.types.is_binary(field.type)]
    table = file.read([name for name in file.schema_arrow.names if name not in heavy]).to_pandas()
    for name in heavy:
        table[name] = pd.Series([StoredBytes(path, row, name) for row in range(len(table))], dtype=object)
    return table[file.schema_arrow.names]


@contextmanager
def opened(path: Path) -> Iterator[pq.ParquetFile]:
    """An open Parquet file; the handle is kept as long as the same file lies at the path.

    Raises:
        ArtifactReplaced: there is no such file (any more).
        DamagedArtifact: it is no longer a Parquet file.
    """
    try:
        stat = os.stat(path)
        yield _opened(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    except FileNotFoundError:
        raise ArtifactReplaced(f"{path}: gone since its rows were listed, as its partition was made again") from None
    except pa.ArrowInvalid as error:
        raise DamagedArtifact(f"{path}: damaged since its rows were listed ({error}); run `make verify`") from None


@lru_cache(maxsize=64)
def _opened(path: Path, *_identity: int) -> pq.ParquetFile:
    return pq.ParquetFile(path)
