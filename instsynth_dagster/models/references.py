"""References to models in a params file: a folder, or a repository of a model hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from instsynth_dagster.errors import CheckpointError

PIN = "@sha256:"
"""Separator between a folder or file on disk and its digest."""
CONVERT = "+convert"
"""Ending of a folder or hub id whose torch files may be converted to safetensors."""

_HUB_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubReference:
    """A repository of the model hub; `convert` allows torch files, which are converted to safetensors once."""

    name: str
    revision: str = "main"
    convert: bool = False

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes its content."""
        return bool(_COMMIT.fullmatch(self.revision))

    def __str__(self) -> str:
        return self.name if self.revision == "main" else f"{self.name}@{self.revision}"


def hub_reference(source: str | Path) -> HubReference:
    """The hub repository that a source names: `owner/name[@revision][+convert]`.

    Raises:
        CheckpointError: it has the form of a path, or cannot be a hub id.
    """
    given, marked, _ = str(source).partition(CONVERT)
    name, _, revision = given.partition("@")
    if is_path(name):
        raise CheckpointError(f"{name}: no such folder")
    if not _HUB_ID.fullmatch(name):
        raise CheckpointError(f"{name}: no such folder, and no id of a model hub either (owner/name)")
    return HubReference(name, revision or "main", bool(marked))


def without_mark(source: str | Path) -> tuple[str, bool]:
    """A source without the suffix `+convert`, and whether it had it."""
    text = str(source)
    return text.removesuffix(CONVERT), text.endswith(CONVERT)


def is_path(name: str) -> bool:
    """Whether a name has the form of a path, or its parent is a folder on this machine; then it is never looked up on a
    hub.
    """
    if name.startswith((".", "/", "~")) or name.endswith("/") or "\\" in name or name.count("/") > 1:
        return True
    return "/" in name and path_exists(Path(name).parent)


def path_exists(path: Path) -> bool:
    """Whether a file or folder of this name exists. `Path.exists` raises OSError for names that no file system can
    hold.
    """
    return os.path.exists(path)
