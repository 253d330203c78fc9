"""How one partition comes into the store: under its lock, from inputs that stay what they are until it is committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from assets.shared.declaration import Artifact
from assets.shared.kept import keep
from assets.shared.made import Check, Made
from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.artifacts.snapshot import Snapshot
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.artifacts.writer import PIECE
from instsynth_dagster.errors import ArtifactReplaced
from instsynth_dagster.graph.staleness import expected, why_stale


class Blocked(Exception):
    """Leaves a partition unwritten because a blocking check failed."""

    def __init__(self, asset: str, partition: str, check: Check) -> None:
        super().__init__(f"{asset}[{partition}]: {check.name}: {check.description}")
        self.outcome = (partition, check)


@dataclass(frozen=True)
class Stored:
    """A partition that is in the store, made now or before; `read_at` says which of its inputs' events it knows."""

    manifest: Manifest
    current_provenance: bool
    read_at: Mapping[str, str]

    def line(self) -> str:
        """For the log."""
        made = f"{self.manifest.rows} rows, {self.manifest.wall_seconds:.1f} s"
        how = made if self.current_provenance else f"up to date; made at {self.manifest.made_at[:16]}Z: {made}"
        return f"{self.manifest.asset}[{self.manifest.partition}]: {how}"


@dataclass(frozen=True)
class Making:
    """The partitions of an asset, made with `resources` where they are not up to date."""

    store: Store
    asset: Artifact
    resources: Mapping[str, Any]
    on_device: bool
    log: Callable[[str], None]

    def partition(self, partition: str, pointers: Callable[[str], Mapping[str, str]]) -> Stored:
        """Make a partition, unless it is up to date, or is once another run that makes it has let go of it.

        Raises:
            Blocked: a blocking check failed, nothing is stored.
            ArtifactReplaced: what it is made from was made again meanwhile; nothing is stored.
        """
        manifest_of = self._look(partition)
        for upstream, upstream_partition in self.asset.upstream(partition):
            if manifest_of(upstream, upstream_partition) is None:
                self.store.require(upstream, upstream_partition)
        if found := self._up_to_date(partition, pointers):
            return found
        with self.store.lock(self.asset.key, partition, self.log) as lock:
            if found := self._up_to_date(partition, pointers):
                return found
            read_at = pointers(partition)
            manifest_of = self._look(partition)
            unchanged = self._watch(partition, manifest_of)
            now = expected(self.asset, partition, manifest_of)
            if now is None:
                raise ArtifactReplaced(f"{self.asset.key}[{partition}]: what it is made from is being made again")
            piece = self._piece_seconds() if self.on_device and self.store.device_hours else 0.0
            with self.store.write(
                self.asset.key, partition, now.fingerprint, now.components, lock, piece, unchanged
            ) as out:
                if self.on_device:
                    out.meter.check()
                started = time.monotonic()
                given = self.asset.arguments(partition, self.resources)
                made = self.asset.declaration.make(out, partition, **given) or Made()
                if self.on_device and out.rows and not out.device_seconds:  # without a row the device had no work
                    out.meter.spend(time.monotonic() - started)
                    out.device_seconds = out.meter.used
                if failed := [check for check in made.checks if check.blocking and not check.passed]:
                    raise Blocked(self.asset.key, partition, failed[0])
                keep(out, made)
        return Stored(self.store.require(self.asset.key, partition), True, read_at)

    def _up_to_date(self, partition: str, pointers: Callable[[str], Mapping[str, str]]) -> Stored | None:
        if why_stale(self.asset, partition, self._look(partition)):
            return None
        read_at = pointers(partition)
        manifest_of = self._look(partition)  # again: what came between would count as known
        if why_stale(self.asset, partition, manifest_of):
            return None
        manifest = manifest_of(self.asset.key, partition)
        assert manifest is not None
        return Stored(manifest, False, read_at)

    def _look(self, partition: str) -> Snapshot:
        """A partition and all upstream of it as they are now: few requests to an object store."""
        return self.store.snapshot([*self.asset.upstream(partition), (self.asset.key, partition)])

    def _watch(self, partition: str, manifest_of: Snapshot) -> Callable[[], None]:
        """Raises once anything upstream is not the very manifest that it is now: one that was made again and then as
        before may have been read in between."""
        refs = list(self.asset.upstream(partition))
        before = [manifest_of(*ref) for ref in refs]

        def unchanged() -> None:
            manifest_now = self._look(partition)
            for (upstream, key), manifest in zip(refs, before, strict=True):
                if manifest_now(upstream, key) != manifest:
                    raise ArtifactReplaced(
                        f"{upstream}[{key}] was made again while {self.asset.key}[{partition}] read it"
                    )

        return unchanged

    def _piece_seconds(self) -> float:
        """The longest piece of device work that partitions of the asset have taken so far."""
        made = [manifest for key in self.asset.partitions if (manifest := self.store.manifest(self.asset.key, key))]
        return max((manifest.summary.get(PIECE, 0.0) for manifest in made), default=0.0)
