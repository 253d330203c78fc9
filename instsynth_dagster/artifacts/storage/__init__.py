"""The place of the artifacts' files: a local disk, or any object store that fsspec supports."""

from __future__ import annotations

from pathlib import Path

from instsynth_dagster.artifacts.storage.base import Storage
from instsynth_dagster.artifacts.storage.local import LocalStorage


def open_storage(root: Path | str, cache: Path) -> Storage:
    """The storage at a path or a URL (`s3://bucket/prefix`, `gs://...`).

    Args:
        cache: folder of local copies of an object store's files; unused for a local disk.

    Raises:
        SettingsError: the URL's protocol is unknown, or its package is not installed.
    """
    if "://" not in str(root):
        return LocalStorage(Path(root))
    from instsynth_dagster.artifacts.storage.objects import ObjectStorage

    return ObjectStorage(str(root), cache)
