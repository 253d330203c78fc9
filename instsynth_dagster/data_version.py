"""Which version of the data set was used, as DVC and as the files themselves tell it."""

from __future__ import annotations

from pathlib import Path

import yaml

from instsynth_dagster.errors import DatasetError


def dvc_revision(root: Path) -> str | None:
    """md5 that DVC recorded for the data set at `root` or for a folder above it (`data.dvc` beside `data`).

    Raises:
        DatasetError: that file is not one of DVC's.
    """
    for folder in (root, *root.parents):
        pointer = folder.with_name(f"{folder.name}.dvc") if folder.name else None
        if pointer and pointer.is_file():
            try:
                outs = (yaml.safe_load(pointer.read_text()) or {}).get("outs") or [{}]
                return outs[0].get("md5")
            except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise DatasetError(f"{pointer}: not a file of DVC; make it again with `dvc add`") from None
    return None
