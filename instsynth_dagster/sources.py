"""Where weights come from: a folder, or a hub repository that may be pinned to a revision."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def pretrained(source: str | Path) -> tuple[str, dict[str, Any]]:
    """Name and keywords for a `from_pretrained`.

    Args:
        source: `folder`, `owner/name` or `owner/name@revision`; a folder is never looked up on the hub.
    """
    if Path(source).is_dir():
        return str(source), {"local_files_only": True, "revision": "main"}
    name, _, revision = str(source).partition("@")
    return name, {"local_files_only": False, "revision": revision or "main"}
