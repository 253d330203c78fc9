"""Artifacts that no params file needs any more: `make gc` lists them, with REMOVE=1 it removes them."""

from __future__ import annotations

import argparse
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assets import build_graph
from instsynth_dagster.artifacts.manifest import MANIFEST, Manifest, partition_folder
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.doctor.findings import gigabytes
from instsynth_dagster.errors import SettingsError, UserError
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import Settings, load_settings

_DAMAGED = ".damaged"


@dataclass(frozen=True)
class UnusedFiles:
    """Files of a folder of the store, relative to it; `bytes` according to the manifest; and directories outside the
    store that the partition wrote, which stay.
    """

    folder: str
    files: tuple[str, ...]
    bytes: int | None
    outside: tuple[str, ...] = ()

    def __str__(self) -> str:
        size = "size not known" if self.bytes is None else gigabytes(self.bytes)
        left = "".join(f"; {directory} stays, remove it by hand" for directory in self.outside)
        return f"{self.folder}: {len(self.files)} files, {size}{left}"


def unused_files(store: Store, graphs: Iterable[Mapping[str, Asset]]) -> list[UnusedFiles]:
    """Partitions of the store that are in none of the graphs, including unfinished ones, and damaged files that were
    set aside.
    """
    wanted = {
        partition_folder(key, partition)
        for graph in graphs
        for key, asset in graph.items()
        for partition in asset.partitions
    }
    names = sorted(name for name in store.storage.names("") if not name.startswith("."))
    finished = {posixpath.dirname(name) for name in names if posixpath.basename(name) == MANIFEST}
    found: dict[str, list[str]] = {}
    for name in names:
        above = list(_above(name))
        if wanted.isdisjoint(above):
            folder = next((one for one in above if one in finished), posixpath.dirname(name))
        elif name.endswith(_DAMAGED):
            folder = posixpath.dirname(name)
        else:
            continue
        found.setdefault(folder, []).append(posixpath.relpath(name, folder or "."))
    return [_unused_files(store, folder, files) for folder, files in found.items()]


def _above(name: str) -> Iterator[str]:
    """Parent folders of a file, the innermost first."""
    while name := posixpath.dirname(name):
        yield name


def _unused_files(store: Store, folder: str, files: Sequence[str]) -> UnusedFiles:
    if MANIFEST not in files:
        return UnusedFiles(folder, tuple(files), None)
    try:
        manifest = Manifest.from_json(store.storage.read(f"{folder}/{MANIFEST}"))
    except ValueError:
        return UnusedFiles(folder, tuple(files), None)
    outside = tuple(directory for directory in manifest.outside if os.path.exists(directory))
    return UnusedFiles(folder, tuple(files), sum(file.bytes for file in manifest.files()), outside)


def remove(store: Store, found: Iterable[UnusedFiles]) -> None:
    """Remove files; the manifest of a partition is removed first, so that the rest never counts as a complete
    partition.
    """
    for one in found:
        with store.storage.lock(one.folder, f"a run that makes {one.folder}", print):
            if MANIFEST in one.files:
                store.storage.remove(one.folder, [MANIFEST])
            store.storage.remove(one.folder, {file.split("/")[0] for file in one.files})


def same_store(settings: Settings, others: Iterable[Path]) -> Iterator[tuple[Path, Settings]]:
    """Params files whose artifacts are in the same store."""
    for path in others:
        other = load_settings(path)
        if other.artifacts.root == settings.artifacts.root:
            yield path, other


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m jobs.gc",
        description="List what is in the store of $INSTSYNTH_PARAMS and in no params file; with --remove remove it.",
    )
    parser.add_argument(
        "params", type=Path, nargs="*", help="files whose artifacts are kept; default: all of the project"
    )
    parser.add_argument("--remove", action="store_true")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        files = given.params or [Path("params.yaml"), *sorted(Path("profiles").glob("*.yaml"))]
        asked = dict(same_store(settings, [path for path in files if path.exists()]))
        store = open_store(settings)
        if not given.params and not asked:
            raise SettingsError(f"no params file of the project uses {settings.artifacts.root}; name them")
        found = unused_files(store, [build_graph(settings), *map(build_graph, asked.values())])
        _print_unused(found, asked)
        if given.remove:
            remove(store, found)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    if found and not given.remove:
        print("nothing was removed: make gc REMOVE=1 does it")


def _print_unused(found: Sequence[UnusedFiles], asked: Iterable[Path]) -> None:
    names = ", ".join(["$INSTSYNTH_PARAMS or params.yaml", *map(str, asked)])
    print("\n".join(map(str, found)) or "every artifact in the store is used", f"wanted by: {names}", sep="\n")
    if found:
        print(
            f"{sum(len(one.files) for one in found)} files, {gigabytes(sum(one.bytes or 0 for one in found))} at least"
        )


if __name__ == "__main__":
    main()
