"""The refresh: stale partitions of the graph are made again, upstream first, by workers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Protocol

import dagster as dg

from assets.shared.kept import outcomes
from instsynth_dagster.artifacts.locking import refresh_lock
from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import UserError
from instsynth_dagster.graph.staleness import Asset, PartitionRef, contiguous_ranges, why_stale

CHANGED = ".changed"
"""File below the store that every refresh touches that made a partition."""


class Workers(Protocol):
    """The place where the runs of a refresh are executed: processes of this machine, or the queue of a cluster."""

    runs_per_asset: int
    """Into about how many runs the stale partitions of an asset are cut."""

    def has_room(self, asset: Asset) -> bool:
        """Whether a run of an asset may be submitted now."""

    def submit(self, asset: Asset, first: str, last: str) -> str:
        """Start or queue a run of the partitions from `first` to `last`; returns its id."""

    def unfinished(self, asset: Asset) -> list[str]:
        """Runs of an asset that an earlier refresh has left queued or running."""

    def outcome(self, run: str) -> str | None:
        """The reason why a run failed, or "" for success; None while it, or its replacement after a crash, is not
        finished.
        """

    def wait(self) -> None:
        """Wait until outcomes may have changed."""


@dataclass(frozen=True)
class Refreshed:
    """The result of a refresh: partitions made, seconds of wall time and of the device."""

    partitions: int
    wall_seconds: float
    device_seconds: float

    def tags(self) -> dict[str, str]:
        """The cost, as tags of the run."""
        return {
            "instsynth/partitions": str(self.partitions),
            "instsynth/wall_seconds": f"{self.wall_seconds:.1f}",
            "instsynth/device_seconds": f"{self.device_seconds:.1f}",
        }


def refresh(graph: Mapping[str, Asset], store: Store, workers: Workers, log: Callable[[str], None]) -> Refreshed:
    """Materialise every stale partition of `graph` on `workers`.

    A partition is checked when everything that it reads is up to date, so that an upstream partition with unchanged
    content ends the update there, and independent partitions are made concurrently. A file that is found to be damaged
    is made again. One refresh at a time works on a store; a second one waits.

    Raises:
        dagster.Failure: runs failed, which the message names; other running ones are awaited, and their results are
            kept. Or the store cannot be locked or reached.
    """
    started = time.monotonic()
    made: dict[PartitionRef, float] = {}
    try:
        with refresh_lock(store.storage, Path.cwd(), log):
            while failure := _Walk(graph, store, workers, log, made).failure():
                log(f"{failure}; it is made again")
            if made:
                store.storage.write(CHANGED, b"")
    except (UserError, ConnectionError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
    log("nothing is stale" if not made else f"{len(made)} partitions made")
    return Refreshed(len(made), time.monotonic() - started, sum(made.values()))


@dataclass
class _Progress:
    """State of an asset: partitions that wait for others, that are stale and ready, and that are running."""

    place: str
    waiting: int
    ready: dict[str, str] = field(default_factory=dict)
    """Partition -> why it is stale."""
    at_work: dict[str, list[str]] = field(default_factory=dict)
    """Run -> its partitions."""
    left_over: list[str] | None = None
    """Runs of an earlier refresh, which are waited for; None before they are asked for."""
    size: int | None = None
    """Partitions of one run; None before the first."""
    begun: float | None = None
    """When the first run was submitted."""
    made: list[float] = field(default_factory=list)
    """Seconds of work of each partition that was made."""

    def summary(self) -> str:
        """Seconds of work of all runs, and seconds since the first one began; runs wait and run concurrently."""
        passed = time.monotonic() - (self.begun or time.monotonic())
        count = f"{len(self.made)} partition{'s' if len(self.made) != 1 else ''}"
        return f"{count} in {sum(self.made):.1f} s of work, {passed:.1f} s after the first run began"


class _Walk:
    """One pass over the graph."""

    def __init__(
        self,
        graph: Mapping[str, Asset],
        store: Store,
        workers: Workers,
        log: Callable[[str], None],
        made: dict[PartitionRef, float],
    ) -> None:
        """A pass over the graph; `made` records the device seconds of each partition that is made."""
        self._graph, self._store, self._workers, self._log, self._made = graph, store, workers, log, made
        self._manifest_of = store.snapshot()
        self._failures: list[str] = []
        self._failed: list[PartitionRef] = []
        self._assets = {
            key: _Progress(f"[{number}/{len(graph)}] {key}", len(asset.partitions))
            for number, (key, asset) in enumerate(graph.items(), 1)
        }
        self._reads = {
            (key, partition): set(asset.upstream(partition))
            for key, asset in graph.items()
            for partition in asset.partitions
        }
        self._read_by: dict[PartitionRef, list[PartitionRef]] = defaultdict(list)
        for ref, upstream in self._reads.items():
            for above in upstream:
                self._read_by[above].append(ref)

    def failure(self) -> str:
        """Run until nothing is stale and return "", or the failure caused by a damaged file that is now set aside and
        stale.

        Raises:
            dagster.Failure: any other failure.
        """
        open_above = {ref: set(upstream) for ref, upstream in self._reads.items()}
        self._open_above = open_above
        self._find_stale([ref for ref, upstream in open_above.items() if not upstream])
        while self._step():
            self._workers.wait()
        failure = "; ".join(dict.fromkeys(self._failures))
        if failure and not self._has_stale_input():
            raise dg.Failure(description=failure, allow_retries=False)
        return failure

    def _find_stale(self, refs: list[PartitionRef]) -> None:
        """Check which partitions are stale, now that everything they read is up to date."""
        while refs:
            key, partition = refs.pop()
            self._assets[key].waiting -= 1
            if reason := why_stale(self._graph[key], partition, self._manifest_of):
                self._assets[key].ready[partition] = reason
            else:
                refs += self._up_to_date((key, partition))

    def _up_to_date(self, ref: PartitionRef) -> Iterator[PartitionRef]:
        """Partitions for which this one was the last missing input."""
        for reader in self._read_by[ref]:
            waits_for = self._open_above[reader]
            waits_for.discard(ref)
            if not waits_for:
                yield reader

    def _step(self) -> bool:
        """Collect finished runs and submit new ones; returns whether any are running."""
        for key in self._graph:
            self._collect(key)
        if not self._failures:
            for key in self._graph:
                self._submit(key)
        return any(progress.at_work or progress.left_over for progress in self._assets.values())

    def _submit(self, key: str) -> None:
        asset, progress = self._graph[key], self._assets[key]
        if not progress.ready or progress.left_over:
            return
        if progress.left_over is None:
            progress.left_over = self._workers.unfinished(asset)
            if progress.left_over:
                self._log(f"{progress.place}: {len(progress.left_over)} runs of an earlier refresh are still running")
                return
        if progress.size is None:
            progress.size = ceil((len(progress.ready) + progress.waiting) / self._workers.runs_per_asset)
        while len(progress.ready) >= (progress.size if progress.waiting else 1) and self._workers.has_room(asset):
            self._submit_one(asset, progress)

    def _submit_one(self, asset: Asset, progress: _Progress) -> None:
        stale = [partition for partition in asset.partitions if partition in progress.ready]
        first, last = next(partition_ranges(asset, stale, progress.size or 1))
        partitions = partitions_between(asset, first, last)
        reason = progress.ready[partitions[0]]
        for partition in partitions:
            del progress.ready[partition]
        named = f"{first} to {last}, " if first != last else f"{first}, " if asset.dimensions else ""
        self._log(f"{progress.place}: {named}{len(partitions)} of {len(asset.partitions)} partitions ({reason})")
        progress.begun = progress.begun or time.monotonic()
        progress.at_work[self._workers.submit(asset, first, last)] = partitions

    def _collect(self, key: str) -> None:
        progress = self._assets[key]
        if progress.left_over and None not in [self._workers.outcome(run) for run in progress.left_over]:
            progress.left_over = []
            self._recheck(key)
        over = {run: outcome for run in progress.at_work if (outcome := self._workers.outcome(run)) is not None}
        if not over:
            return
        self._manifest_of.forget(key)
        for run, failure in over.items():
            self._record(key, progress.at_work.pop(run), failure)
        if not (progress.at_work or progress.ready or progress.waiting or self._failures):
            self._log(f"{progress.place}: done, {progress.summary()}")

    def _recheck(self, key: str) -> None:
        """Check stale partitions that others may have made in the meantime."""
        self._manifest_of.forget(key)
        progress = self._assets[key]
        partitions, progress.ready = list(progress.ready), {}
        progress.waiting += len(partitions)
        self._find_stale([(key, partition) for partition in partitions])

    def _record(self, key: str, partitions: Sequence[str], failure: str) -> None:
        """Record the partitions that a run has made."""
        done = []
        for partition in partitions:
            reason = why_stale(self._graph[key], partition, self._manifest_of)
            if reason:
                self._failed.append((key, partition))
                failure = failure or f"{partition} is still stale ({reason}): a worker has other settings or code"
            else:
                manifest = self._store.require(key, partition)
                self._made[key, partition] = manifest.device_seconds
                self._assets[key].made.append(manifest.wall_seconds)
                self._warn(manifest)
                done.append((key, partition))
        if failure:
            self._failures.append(f"{key}: {failure}")
        self._find_stale([reader for ref in done for reader in self._up_to_date(ref)])

    def _warn(self, manifest: Manifest) -> None:
        """Log the failed non-blocking checks of a partition."""
        for check in outcomes(manifest):
            if not check.passed:
                text = check.description.removeprefix(f"{manifest.partition}: ")
                self._log(f"warning: {manifest.asset}[{manifest.partition}]: {check.name}: {text}")

    def _has_stale_input(self) -> bool:
        """Whether any input of a failed partition, all up to date when it started, has become stale."""
        now = self._store.snapshot()
        seen: set[PartitionRef] = set()
        waiting = [above for ref in self._failed for above in self._reads[ref]]
        while waiting:
            ref = waiting.pop()
            if ref in seen:
                continue
            seen.add(ref)
            if why_stale(self._graph[ref[0]], ref[1], now):
                return True
            waiting += self._reads[ref]
        return False


def partition_ranges(asset: Asset, partitions: Sequence[str], size: int) -> Iterator[tuple[str, str]]:
    """(first, last) of ranges that cover exactly `partitions`, with at most `size` partitions each."""
    for start in range(0, len(partitions), size):
        yield from contiguous_ranges(asset, partitions[start : start + size])


def partitions_between(asset: Asset, first: str, last: str) -> list[str]:
    """The partitions of a range."""
    keys = asset.partitions
    return keys[keys.index(first) : keys.index(last) + 1]
