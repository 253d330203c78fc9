"""Staleness of partitions, with its reasons: one pure function over fingerprints.

A fingerprint is sha256 over an asset's code version, the settings that it reads and the content digests of the upstream
partitions that it reads. A partition is stale when it is missing or its manifest carries another fingerprint. Because
digests identify content, an upstream partition that is made again with equal content makes nothing below it stale
(early cut-off).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.data.versions import listing_signature
from instsynth_dagster.errors import DamagedArtifact

PartitionRef = tuple[str, str]
"""(asset, partition)"""

ManifestOf = Callable[[str, str], Manifest | None]


@dataclass(frozen=True)
class Asset:
    """The part of an asset that staleness depends on.

    `dimensions` maps a dimension's name to its keys; partition keys join one key for each dimension with `|`,
    dimensions in alphabetical order. `settings(partition)` gives the settings that the asset reads, as JSON values.
    `upstream(partition)` lists the partitions that it reads. `files(partition)` is a signature of the files outside the
    store that it reads: of the data set, of checkpoints. `versions(partition)` lists code versions in addition to the
    asset's own, such as that of the kind of generator or segmenter that makes it.
    """

    key: str
    code_version: str
    dimensions: Mapping[str, Sequence[str]]
    settings: Callable[[str], Any]
    upstream: Callable[[str], Iterable[PartitionRef]]
    files: Callable[[str], str | None] | None = None
    versions: Callable[[str], Any] | None = None

    @property
    def partitions(self) -> list[str]:
        """All partition keys, in order; "all" for an asset without dimensions."""
        if not self.dimensions:
            return ["all"]
        return ["|".join(keys) for keys in product(*(self.dimensions[name] for name in sorted(self.dimensions)))]


@dataclass(frozen=True)
class Stale:
    """A partition to be made, and why. `certain` is False when only a change of an upstream partition could make it
    stale.
    """

    asset: str
    partition: str
    reason: str
    certain: bool = True


@dataclass(frozen=True)
class Expected:
    """The inputs of a partition as they are now: `fingerprint`, and a digest of each of its `components`."""

    fingerprint: str
    components: Mapping[str, str]


def expected(asset: Asset, partition: str, manifest_of: ManifestOf) -> Expected | None:
    """The inputs of a partition as they are now, or None while an upstream partition is missing or damaged."""
    digests = []
    for upstream_asset, upstream_partition in asset.upstream(partition):
        manifest = intact_manifest(manifest_of, upstream_asset, upstream_partition)
        if manifest is None:
            return None
        digests.append([upstream_asset, upstream_partition, manifest.digest])
    parts = {
        "asset": asset.key,
        "partition": partition,
        "code_version": [asset.code_version, asset.versions(partition) if asset.versions else []],
        "settings": asset.settings(partition),
        "upstream": sorted(digests),
        "files": asset.files(partition) if asset.files else None,
    }
    return Expected(_sha256(parts), {name: _sha256(parts[name])[:12] for name in _CHANGES})


def intact_manifest(manifest_of: ManifestOf, asset: str, partition: str) -> Manifest | None:
    """A manifest, or None where it is missing or damaged."""
    try:
        return manifest_of(asset, partition)
    except DamagedArtifact:
        return None


_CHANGES = {
    "code_version": "its code",
    "settings": "settings",
    "files": "files it reads",
    "upstream": "what it is made from",
}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def plan(assets: Sequence[Asset], manifest_of: ManifestOf) -> list[Stale]:
    """All partitions that a refresh would make or check, upstream first; `assets` are in topological order.

    A partition below a stale one is listed as uncertain: whether it runs depends on the new digest of the upstream one.
    """
    result: list[Stale] = []
    touched: dict[PartitionRef, Stale] = {}
    for asset in assets:
        for partition in asset.partitions:
            found = _state(asset, partition, manifest_of, touched)
            if found:
                touched[asset.key, partition] = found
                result.append(found)
    return result


def _state(
    asset: Asset, partition: str, manifest_of: ManifestOf, touched: Mapping[PartitionRef, Stale]
) -> Stale | None:
    if reason := why_stale(asset, partition, manifest_of):
        return Stale(asset.key, partition, reason)
    above = next((ref for ref in asset.upstream(partition) if ref in touched), None)
    if above:
        return Stale(asset.key, partition, f"if {above[0]}[{above[1]}] changes", certain=False)
    return None


def why_stale(asset: Asset, partition: str, manifest_of: ManifestOf) -> str | None:
    """The reason why a partition has to be made, given its current upstream partitions; None when it is up to date."""
    try:
        manifest = manifest_of(asset.key, partition)
    except DamagedArtifact:
        return "its manifest is damaged"
    if manifest is None:
        return "missing"
    now = expected(asset, partition, manifest_of)
    if now is None:
        return "something it is made from is missing"
    if manifest.fingerprint != now.fingerprint:
        changed = [text for name, text in _CHANGES.items() if manifest.components.get(name) != now.components[name]]
        return f"{' and '.join(changed)} changed"
    for directory, signature in manifest.outside.items():
        if listing_signature([Path(directory)]) != signature:
            return f"files in {directory} are missing or changed"
    return None


def contiguous_ranges(asset: Asset, partitions: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Partition keys as (first, last) of ranges that are contiguous in the asset's order, each of which a single
    Dagster run can make.
    """
    wanted = set(partitions)
    stretch: list[str] = []
    for key in asset.partitions:
        if key in wanted:
            stretch.append(key)
        elif stretch:
            yield stretch[0], stretch[-1]
            stretch = []
    if stretch:
        yield stretch[0], stretch[-1]
