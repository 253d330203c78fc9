"""Findings of an examination, one line each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line. With a `problem` a run cannot succeed; a `warning` deserves attention; a `fact` says what was found, or
    what could not be checked.
    """

    kind: Literal["problem", "warning", "fact"]
    text: str

    def __str__(self) -> str:
        return self.text if self.kind == "fact" else f"{self.kind}: {self.text}"


def problem(text: str) -> Finding:
    """A finding with which a run cannot succeed."""
    return Finding("problem", text)


def warning(text: str) -> Finding:
    """A finding that deserves attention."""
    return Finding("warning", text)


def fact(text: str) -> Finding:
    """A finding that is a plain statement."""
    return Finding("fact", text)


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """The problems among findings."""
    return [finding for finding in findings if finding.kind == "problem"]


def gigabytes(count: float) -> str:
    """A number of bytes as text in GB, or in MB below one GB."""
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """A duration in a readable unit."""
    for unit, name in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit or (name != "days" and seconds >= unit):
            return f"{seconds / unit:.1f} {name}" if seconds < 100 * unit else f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"
