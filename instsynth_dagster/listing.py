"""Signatures of directories that live outside the store, from names, sizes and (optionally) times alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


def listing_signature(directories: Iterable[Path], times: bool) -> str:
    """sha256 over the sorted (path, size[, mtime]) of all files below; a missing directory counts as empty."""
    lines = []
    for directory in directories:
        for path in directory.rglob("*"):
            if path.is_file():
                stat = path.stat()
                stamp = f"\0{stat.st_mtime_ns}" if times else ""
                lines.append(f"{directory.name}/{path.relative_to(directory).as_posix()}\0{stat.st_size}{stamp}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def city_directories(root: Path, city: str) -> list[Path]:
    """Where a city's files lie in a Cityscapes tree, whatever its split."""
    return sorted(path for kind in ("leftImg8bit", "gtFine") for path in root.glob(f"{kind}/*/{city}"))
