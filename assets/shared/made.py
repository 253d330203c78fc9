"""What the body of an asset hands back: metadata for the UI, and the outcome of its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Check:
    """Outcome of one check on one partition. A blocking check that fails keeps the partition from being stored;
    one that is not blocking only warns."""

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
    """Metadata that the UI links to: a file in one of the folders that the partition keeps."""

    folder: str
    file: str


@dataclass(frozen=True)
class Made:
    """What an asset reports beside what it stored. Metadata values are numbers, texts, JSON values, `Markdown`,
    `Page`, and paths."""

    metadata: Mapping[str, Any | Markdown | Page | Path] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
