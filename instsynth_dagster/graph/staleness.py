"""Which partitions are stale, and why: one pure function over fingerprints.

A fingerprint is sha256 over an asset's code version, the settings it reads and the content digests of the upstream
partitions it reads. A partition is stale when it is missing or its manifest carries another fingerprint. As digests
name content, an upstream partition re-made with equal content makes nothing below it stale (early cut-off).
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

    `dimensions` maps a dimension's name to its keys; partition keys join one key per dimension with `|`, dimensions in
    alphabetical order. `settings(partition)` returns what the asset reads of the params file, as JSON values.
    `upstream(partition)` lists the partitions it reads. `files(partition)` signs the files outside the store it reads:
    of the data set, of checkpoints. `versions(partition)` lists code versions beside the asset's own: of the kind of
    generator or segmenter that makes it.
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
        if not self.dimensions:
            return ["all"]
        return ["|".join(keys) for keys in product(*(self.dimensions[name] for name in sorted(self.dimensions)))]


@dataclass(frozen=True)
class Stale:
    """A partition to be made, and why. `certain` is False when only an upstream change could make it stale."""

    asset: str
    partition: str
    reason: str
    certain: bool = True


@dataclass(frozen=True)
class Expected:
    """What a partition would be made from: `fingerprint`, and a digest of each of the `components` it is built on."""

    fingerprint: str
    components: Mapping[str, str]


def expected(asset: Asset, partition: str, manifest_of: ManifestOf) -> Expected | None:
    """What a partition would be made from now, or None while something upstream is missing or damaged."""
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


def stale_partitions(asset: Asset, manifest_of: ManifestOf) -> list[Stale]:
    """Stale partitions of one asset, given what is upstream now."""
    return [
        Stale(asset.key, partition, reason)
        for partition in asset.partitions
        if (reason := why_stale(asset, partition, manifest_of))
    ]


def plan(assets: Sequence[Asset], manifest_of: ManifestOf) -> list[Stale]:
    """Everything that a refresh would look at, upstream first; `assets` are in topological order.

    A partition below a stale one is listed as uncertain: whether it runs depends on the digest its upstream gets.
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
        return Stale(asset.key, partition, f"if {above[0]}[{above[1]}] comes out different", certain=False)
    return None


def why_stale(asset: Asset, partition: str, manifest_of: ManifestOf) -> str | None:
    """Why a partition has to be made, given what is upstream now; None when it is up to date."""
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
    """Partition keys as (first, last) of stretches that are contiguous in the asset's order, which a single run of
    Dagster can take."""
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
