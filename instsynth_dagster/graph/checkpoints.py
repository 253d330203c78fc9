"""Checkpoints on disk as part of the graph: a folder that is overwritten makes stale what was made with it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from instsynth_dagster.artifacts.file_digests import FileDigests
from instsynth_dagster.models.digests import checkpoint_files, named_checkpoints

_DIGESTS = ".cache/checkpoints.sqlite"


class CheckpointContents:
    """Signs the content of the checkpoints that settings name.

    Each is looked at once in the life of a graph, and files are read again only when their size or time is another
    one. A change during a run is found by the next.
    """

    def __init__(self, local: Path) -> None:
        digests = FileDigests(local / _DIGESTS)

        @cache
        def sign(path: Path) -> str:
            files, root = ([path], path.parent) if path.is_file() else (checkpoint_files(path), path)
            return digests.signature(files, root)

        self._sign = sign

    def of(self, values: object) -> str | None:
        """Signature of all checkpoints on disk that dumped settings name; None where all come from a hub, which pins
        them by revision, or from nowhere."""
        paths = sorted(set(named_checkpoints(values)))
        if not paths:
            return None
        return hashlib.sha256("\n".join(self._sign(path) for path in paths).encode()).hexdigest()
