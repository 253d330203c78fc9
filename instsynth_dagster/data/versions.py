"""Versions of the data set: signatures of its files, and the revision recorded by DVC."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import yaml

from instsynth_dagster.errors import DatasetError, UnreadableError, is_transient

READ_SUFFIXES = ("_leftImg8bit.png", "_gtFine_instanceIds.png")
SEMANTIC_SUFFIXES = ("_leftImg8bit.png", "_gtFine_labelIds.png")
"""Suffixes of the files of a Cityscapes tree that the graph reads; changes of other files make nothing stale."""


_LEVELS = 3
"""Levels of folders in a Cityscapes tree: kind, split, city."""


def files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder, folder by folder in the order of their names; the names of one folder are in memory at
    a time.
    """
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def listing_signature(directories: Iterable[Path]) -> str:
    """sha256 over (path, size) of all files below; a missing directory counts as empty."""
    digest = hashlib.sha256()
    for directory in directories:
        for path in files_below(directory):
            line = f"{directory.name}/{path.relative_to(directory).as_posix()}\0{path.stat().st_size}\n"
            digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def city_directories(root: Path, city: str) -> list[Path]:
    """Folders of a city's files in a Cityscapes tree, in any split."""
    return sorted(path for kind in ("leftImg8bit", "gtFine") for path in root.glob(f"{kind}/*/{city}"))


def city_files(root: Path, city: str, suffixes: tuple[str, ...] = READ_SUFFIXES) -> list[Path]:
    """The files of a city that the graph reads, or those with semantic maps.

    Raises:
        UnreadableError: a folder may not be listed.
    """
    folders = [path for path in city_directories(root, city) if path.is_dir()]
    try:
        found = [path for folder in folders for path in folder.iterdir()]
    except OSError as error:
        if is_transient(error):
            raise
        raise UnreadableError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return sorted(path for path in found if path.name.endswith(suffixes))


def dvc_revision(root: Path) -> str | None:
    """md5 that DVC recorded for the data set at `root` or for a folder above it (`data.dvc` beside `data`).

    None where there is no record, or where a link to a folder lies between the record and the files of the data set:
    DVC does not follow such links, so its record does not cover the files.

    Raises:
        DatasetError: the file is not one of DVC's.
    """
    for folder in (root, *root.parents):
        pointer = folder.with_name(f"{folder.name}.dvc") if folder.name else None
        if pointer and pointer.is_file():
            try:
                outs = (yaml.safe_load(pointer.read_text()) or {}).get("outs") or [{}]
                recorded = outs[0].get("md5")
            except (OSError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise DatasetError(f"{pointer}: not a file of DVC; make it again with `dvc add`") from None
            return None if _is_linked(root, folder) else recorded
    return None


def _is_linked(root: Path, tracked: Path) -> bool:
    """Whether a link to a folder lies between a tracked folder and the files of the data set at `root`."""
    way = [root, *root.parents][: len(root.parts) - len(tracked.parts) + 1]
    return any(path.is_symlink() for path in way) or _links_folder(root, _LEVELS)


def _links_folder(folder: Path, levels: int) -> bool:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and (entry.is_symlink() or (levels > 1 and _links_folder(Path(entry), levels - 1))):
                return True
    return False
