"""Where the bytes of artifacts lie: a local disk, or any object store that fsspec knows."""

from __future__ import annotations

from pathlib import Path

from instsynth_dagster.artifacts.storage.base import Storage
from instsynth_dagster.artifacts.storage.local import LocalStorage


def open_storage(root: Path | str, cache: Path) -> Storage:
    """The storage at a path or a URL (`s3://bucket/prefix`, `gs://...`).

    Args:
        cache: where local copies of an object store's files are kept; not used for a local disk.

    Raises:
        SettingsError: the URL's protocol is unknown or its package is not installed.
    """
    if "://" not in str(root):
        return LocalStorage(Path(root))
    from instsynth_dagster.artifacts.storage.objects import ObjectStorage

    return ObjectStorage(str(root), cache)
