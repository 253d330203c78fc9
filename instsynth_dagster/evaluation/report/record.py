"""The record of a run inside its report page, so that two pages suffice to compare two runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from instsynth_dagster.errors import ArtifactError

RECORD, PROVENANCE = "run", "made-from"
"""Ids of the elements that hold the record and the provenance."""
STAMP = "<!-- made -->"
"""Placeholder for time and code version of a page: the only difference between two pages of equal content."""


@dataclass(frozen=True)
class KeptTable:
    """A table of a run as JSON: `keys` names the columns that identify a row; values are numbers or texts."""

    keys: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[float | int | str | None, ...], ...]

    @classmethod
    def of(cls, table: pd.DataFrame, keys: Sequence[str], columns: Sequence[str]) -> KeptTable:
        """The columns of a table, with None for nan."""
        chosen = table[[*keys, *columns]].astype(object)
        rows = chosen.where(chosen.notna(), None).to_numpy().tolist()
        return cls(tuple(keys), tuple(columns), tuple(tuple(map(_plain, row)) for row in rows))

    def frame(self) -> pd.DataFrame:
        """The table, with its keys as index."""
        table = pd.DataFrame(list(self.rows), columns=[*self.keys, *self.columns])
        return table.set_index(list(self.keys))


def _plain(value: Any) -> Any:
    plain = value.item() if hasattr(value, "item") else value
    return round(plain, 6) if isinstance(plain, float) else plain


@dataclass(frozen=True)
class KeptCrop:
    """A crop of the gallery; `picture` is the id of its image in the page."""

    generator: str
    instance_id: str
    replica: int
    class_name: str
    prompt: str
    reason: str
    picture: str


@dataclass(frozen=True)
class Record:
    """The record of a run: leading metric, settings by dotted key, verdict, tables by title, loss curves, crops."""

    lead: str = "ap"
    settings: Mapping[str, str] = field(default_factory=dict)
    verdict: str = ""
    tables: Mapping[str, KeptTable] = field(default_factory=dict)
    curves: KeptTable | None = None
    crops: Sequence[KeptCrop] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values of the record."""
        return asdict(self)


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class ReportPage:
    """A parsed report: its record, its provenance, and the pictures of the gallery, repainted and source, by id."""

    record: Record
    provenance: Mapping[str, str]
    pictures: Mapping[str, tuple[str, str]]


def flattened(value: Any, place: str = "") -> dict[str, str]:
    """Settings, as given by `view.hashed`, by dotted key; a list of plain values is one value."""
    if isinstance(value, list) and value and all(_is_entry(entry) for entry in value):
        value = dict(value)
    if not isinstance(value, dict):
        return {place: json.dumps(value) if not isinstance(value, str) else value}
    inside = (flattened(inner, f"{place}.{name}".lstrip(".")) for name, inner in value.items())
    return {key: text for part in inside for key, text in part.items()}


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], dict)


def current_provenance() -> dict[str, str]:
    """The current time, and the commit of the running code."""
    return {"made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "commit": _commit(Path(__file__).parent)}


def _commit(folder: Path) -> str:
    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("log", "-1", "--format=%h of %cs")
        changed = bool(git("status", "--porcelain", "--untracked-files=no", "--", ":/"))
    except (OSError, subprocess.SubprocessError):
        return "unknown: the code is no git checkout"
    return f"{commit}, with uncommitted changes" if changed else commit


def read_report(path: Path) -> ReportPage:
    """The parsed report page at a path.

    Raises:
        ArtifactError: the file cannot be read, or is not a report that can be compared.
    """
    try:
        reader = _Reader()
        reader.feed(path.read_text())
        record = _RECORD.validate_json(reader.record)
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not a text'})") from None
    except ValidationError:
        raise ArtifactError(f"{path}: not a report that can be compared; make it again with `make refresh`") from None
    return ReportPage(record, dict(reader.provenance), reader.pictures)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.record = ""
        self.provenance: list[tuple[str, str]] = []
        self.pictures: dict[str, tuple[str, str]] = {}
        self._inside = ""
        self._listing = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "script" and given.get("id") == RECORD:
            self._inside = "record"
        elif tag == "dl":
            self._listing = given.get("id") == PROVENANCE
        elif tag in ("dt", "dd") and self._listing:
            self._inside = tag
            if tag == "dt":
                self.provenance.append(("", ""))
        elif tag == "img" and "data-other" in given and "id" in given:
            self.pictures[given["id"]] = given["src"], given["data-other"]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""
        self._listing = self._listing and tag != "dl"

    def handle_data(self, data: str) -> None:
        if self._inside == "record":
            self.record += data
        elif self._inside:
            name, text = self.provenance[-1]
            self.provenance[-1] = (name + data, text) if self._inside == "dt" else (name, text + data)
