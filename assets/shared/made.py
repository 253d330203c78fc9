"""The return value of an asset's body: metadata for the UI, and the outcomes of its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Check:
    """Outcome of one check on one partition. A blocking check that fails keeps the partition from being stored; any
    other is a warning.
    """

    name: str
    passed: bool
    description: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    blocking: bool = True


@dataclass(frozen=True)
class Markdown:
    """Metadata that the UI shows as formatted text."""

    text: str


@dataclass(frozen=True)
class Page:
    """Metadata that the UI shows as a link: a file in one of the folders of the partition."""

    folder: str
    file: str


@dataclass(frozen=True)
class Made:
    """The report of an asset's body. Metadata values are numbers, texts, JSON values, `Markdown`, `Page`, and paths."""

    metadata: Mapping[str, Any | Markdown | Page | Path] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
