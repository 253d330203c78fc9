"""Checkpoints on disk as part of the graph: overwriting a folder makes everything stale that was made with it."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from instsynth_dagster.artifacts.file_digests import FileDigests
from instsynth_dagster.models.digests import checkpoint_files
from instsynth_dagster.models.references import path_exists
from instsynth_dagster.settings.named import checkpoints

_DIGESTS = ".cache/checkpoints.sqlite"


class CheckpointContents:
    """Signatures of the content of the checkpoints that settings name.

    Each is checked once in the lifetime of a graph, and files are read again only when their size or modification time
    differs. A change during a run is found by the next run.
    """

    def __init__(self, local: Path) -> None:
        digests = FileDigests(local / _DIGESTS)

        @cache
        def sign(path: Path) -> str:
            files, root = ([path], path.parent) if path.is_file() else (checkpoint_files(path), path)
            return digests.signature(files, root)

        self._sign = sign

    def of(self, settings: object) -> str | None:
        """Signature of all checkpoints on disk that settings name; None where all come from a hub, which pins them by
        revision, or where there are none.
        """
        paths = {ref.path for ref in checkpoints(settings).values()}
        contents = [self._sign(path) for path in sorted(paths) if path_exists(path)]
        return hashlib.sha256("\n".join(contents).encode()).hexdigest() if contents else None
