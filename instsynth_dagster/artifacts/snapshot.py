"""The manifests of many partitions at one time, with few requests to an object store and none repeated."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from instsynth_dagster.artifacts.manifest import MANIFEST, Manifest, partition_folder
from instsynth_dagster.artifacts.storage.base import Storage

Ref = tuple[str, str]
"""(asset, partition)"""


@dataclass(frozen=True)
class Listing:
    """The result of listing an object store: paths of files, and contents of manifests by path.

    `asked` are the partitions that were listed, None for all.
    """

    names: Collection[str]
    contents: Mapping[str, bytes]
    asked: frozenset[Ref] | None


def list_manifests(storage: Storage, refs: Iterable[Ref] | None) -> Listing:
    """File names and manifests of partitions, or of the whole store: one listing for each asset, or one in all, and one
    round of concurrent reads.
    """
    asked = None if refs is None else frozenset(refs)
    folders: dict[str, list[str]] = {}
    for asset, partition in asked or ():
        folders.setdefault(asset, []).append(partition_folder(asset, partition))
    bases = [""] if asked is None else [posixpath.commonpath(within) for within in folders.values()]
    names = {posixpath.join(base, name) for base in bases for name in storage.names(base)}
    if asked is None:
        manifests = {name for name in names if name.endswith(f"/{MANIFEST}")}
    else:
        manifests = names & {f"{folder}/{MANIFEST}" for within in folders.values() for folder in within}
    return Listing(names, storage.read_many(manifests), asked)


class Snapshot:
    """`Store.manifest` with its results remembered.

    Args:
        manifest_of: reads the manifest of a partition from the store.
        parsed: parses the content of a manifest file.
        listing: result of listing an object store, used in place of requests; None to read each partition when it is
            first asked for.
    """

    def __init__(
        self,
        manifest_of: Callable[[str, str], Manifest | None],
        parsed: Callable[[str, str, bytes], Manifest],
        listing: Listing | None,
    ) -> None:
        self._manifest_of, self._parsed, self._listing = manifest_of, parsed, listing
        self._known: dict[Ref, Manifest | None] = {}
        self._fresh: set[str] = set()

    def __call__(self, asset: str, partition: str) -> Manifest | None:
        if (asset, partition) not in self._known:
            self._known[asset, partition] = self._load(asset, partition)
        return self._known[asset, partition]

    def forget(self, asset: str) -> None:
        """Drop the remembered manifests of an asset, whose partitions may have been made since."""
        self._fresh.add(asset)
        for key in [key for key in self._known if key[0] == asset]:
            del self._known[key]

    def _load(self, asset: str, partition: str) -> Manifest | None:
        found = self._listing
        unlisted = found is None or (found.asked is not None and (asset, partition) not in found.asked)
        if unlisted or asset in self._fresh:
            return self._manifest_of(asset, partition)
        assert found is not None
        folder = partition_folder(asset, partition)
        content = found.contents.get(f"{folder}/{MANIFEST}")
        if content is None:
            return None
        manifest = self._parsed(asset, partition, content)
        return manifest if all(f"{folder}/{file.path}" in found.names for file in manifest.files()) else None
