"""Directories that a partition has written outside the store, such as exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.artifacts.storage.base import damaged_name
from instsynth_dagster.data.versions import listing_signature

COLUMNS = ["file", "sha256"]
"""Columns of a partition that writes a directory outside the store: path relative to it, and sha256 (hex)."""


def damaged_files(directory: Path, signature: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Problems with the files of a directory, a line each; a damaged file is renamed, so that a refresh writes it
    again.

    Args:
        signature: signature of the directory's listing when it was written.
        rows: its files, with `COLUMNS`; empty for a directory of which only the listing is compared.
    """
    if listing_signature([directory]) != signature:
        yield f"{directory}: files are missing or changed; refresh writes it again"
    for row in rows:
        if not set(COLUMNS) <= set(row):
            return
        path = directory / row["file"]
        if path.is_file() and file_sha256(path) != row["sha256"]:
            path.replace(path.with_name(damaged_name(path.name)))
            yield f"{path}: damaged, its digest is not the recorded one; it was set aside, and refresh writes it again"
