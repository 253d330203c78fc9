"""Making one partition: under its lock, from inputs that do not change until it is committed."""

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
    """A partition in the store, made now or before; `read_at` are the events of its inputs that it takes into
    account.
    """

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
    """The partitions of an asset, made with `resources` where they are stale."""

    store: Store
    asset: Artifact
    resources: Mapping[str, Any]
    on_device: bool
    log: Callable[[str], None]

    def partition(self, partition: str, pointers: Callable[[str], Mapping[str, str]]) -> Stored:
        """Make a partition unless it is up to date, which it may be after another run has released its lock.

        Raises:
            Blocked: a blocking check failed; nothing is stored.
            ArtifactReplaced: an input was made again in the meantime; nothing is stored.
        """
        manifest_of = self._current_manifests(partition)
        for upstream, upstream_partition in self.asset.upstream(partition):
            if manifest_of(upstream, upstream_partition) is None:
                self.store.require(upstream, upstream_partition)
        if not why_stale(self.asset, partition, manifest_of):
            read_at = pointers(partition)
            # again, because events in between would count as known
            if found := self._up_to_date(partition, self._current_manifests(partition), read_at):
                return found
        with self.store.lock(self.asset.key, partition, self.log) as lock:
            read_at = pointers(partition)
            manifest_of = self._current_manifests(partition)
            if found := self._up_to_date(partition, manifest_of, read_at):
                return found
            unchanged = self._guard_inputs(partition, manifest_of)
            now = expected(self.asset, partition, manifest_of)
            if now is None:
                raise ArtifactReplaced(f"{self.asset.key}[{partition}]: an input is being made again")
            piece = self._piece_seconds() if self.on_device and self.store.device_hours else 0.0
            with self.store.write(
                self.asset.key, partition, now.fingerprint, now.components, lock, piece, unchanged
            ) as out:
                if self.on_device:
                    out.meter.check()
                started = time.monotonic()
                given = self.asset.arguments(partition, self.resources)
                made = self.asset.declaration.make(out, partition, **given) or Made()
                if self.on_device and out.rows and not out.device_seconds:  # without rows the device had no work
                    out.meter.spend(time.monotonic() - started)
                    out.device_seconds = out.meter.used
                if failed := [check for check in made.checks if check.blocking and not check.passed]:
                    raise Blocked(self.asset.key, partition, failed[0])
                keep(out, made)
        return Stored(self.store.require(self.asset.key, partition), True, read_at)

    def _up_to_date(self, partition: str, manifest_of: Snapshot, read_at: Mapping[str, str]) -> Stored | None:
        if why_stale(self.asset, partition, manifest_of):
            return None
        manifest = manifest_of(self.asset.key, partition)
        assert manifest is not None
        return Stored(manifest, False, read_at)

    def _current_manifests(self, partition: str) -> Snapshot:
        """The manifests of a partition and of all its inputs as they are now, with few requests to an object store."""
        return self.store.snapshot([*self.asset.upstream(partition), (self.asset.key, partition)])

    def _guard_inputs(self, partition: str, manifest_of: Snapshot) -> Callable[[], None]:
        """A function that raises once the manifest of an input differs from the current one, even if its content is
        equal: an intermediate version may have been read.
        """
        refs = list(self.asset.upstream(partition))
        before = [manifest_of(*ref) for ref in refs]

        def unchanged() -> None:
            manifest_now = self._current_manifests(partition)
            for (upstream, key), manifest in zip(refs, before, strict=True):
                if manifest_now(upstream, key) != manifest:
                    raise ArtifactReplaced(
                        f"{upstream}[{key}] was made again while {self.asset.key}[{partition}] read it"
                    )

        return unchanged

    def _piece_seconds(self) -> float:
        """Seconds of the longest piece of device work of all partitions of the asset."""
        made = [manifest for key in self.asset.partitions if (manifest := self.store.manifest(self.asset.key, key))]
        return max((manifest.summary.get(PIECE, 0.0) for manifest in made), default=0.0)
