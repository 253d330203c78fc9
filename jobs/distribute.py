"""The refresh of a cluster: what is stale goes, cut into runs, to the workers of the run queue.

The graph is walked as `jobs.refresh` walks it, each asset planned after everything above it is made; assets that do not
read one another are made at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import ceil
from typing import Protocol

import dagster as dg

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.graph.staleness import Asset, stale_partitions, stretches
from jobs.walking import Made, Refreshed, walk_until_whole

_EVERY = 1.0


class Cluster(Protocol):
    """Where the runs of a distributed refresh are made."""

    runs_per_asset: int

    def submit(self, asset: Asset, first: str, last: str) -> str:
        """Queue a run of a rectangle of partitions; returns its id."""

    def unfinished(self, asset: Asset) -> list[str]:
        """Runs of an asset that an earlier refresh has left in the queue or at work."""

    def outcome(self, run: str) -> str | None:
        """None while a run, or the one that takes its place after a crash, is not over; then why it failed or ""."""


def distribute(graph: Mapping[str, Asset], store: Store, cluster: Cluster, say: Callable[[str], None]) -> Refreshed:
    """Materialise every stale partition of `graph` on the workers of `cluster`.

    A file that a worker finds damaged is made again.

    Raises:
        dagster.Failure: naming the runs that failed; what else was at work is waited for, and what was made stays.
    """

    def walk(made: Made) -> str:
        walked = _Walk(graph, store, cluster, say, made)
        while walked.step():
            time.sleep(_EVERY)
        failure = "; ".join(walked.failures)
        if failure and not walked.damage_above():
            raise dg.Failure(description=failure, allow_retries=False)
        return failure

    return walk_until_whole(store, walk, say)


class _Walk:
    """Assets that wait for others, and runs at work; `step` moves what can be moved."""

    def __init__(
        self,
        graph: Mapping[str, Asset],
        store: Store,
        cluster: Cluster,
        say: Callable[[str], None],
        made: Made,
    ) -> None:
        """`made` notes the device seconds of each partition that is made."""
        self._graph, self._store, self._cluster, self._say, self._made = graph, store, cluster, say, made
        self._above = {key: _upstream_assets(asset) for key, asset in graph.items()}
        self._waiting = list(graph)
        self._at_work: dict[str, list[str]] = {}
        self._stale: dict[str, list[str]] = {}
        self._manifest_of = store.snapshot()
        self._failed: set[str] = set()
        self.failures: list[str] = []

    def step(self) -> bool:
        """Collect what is over and start what is ready; whether anything is left to do."""
        for key in list(self._at_work):
            self._collect(key)
        if self.failures:
            self._waiting = []
        for key in list(self._waiting):
            if key not in self._at_work and not self._above[key] & {*self._waiting, *self._at_work}:
                self._start(self._graph[key])
        return bool(self._waiting or self._at_work)

    def damage_above(self) -> bool:
        """Whether something that a failed asset reads, and that was up to date when it started, has become stale."""
        now = self._store.snapshot()
        above = {upstream for key in self._failed for upstream in self._above[key]}
        return any(stale_partitions(self._graph[key], now) for key in above)

    def _start(self, asset: Asset) -> None:
        if left := self._cluster.unfinished(asset):
            self._say(f"{asset.key}: {len(left)} runs of an earlier refresh are at work")
            self._at_work[asset.key] = left
            return
        self._waiting.remove(asset.key)
        stale = stale_partitions(asset, self._manifest_of)
        if not stale:
            return
        partitions = [item.partition for item in stale]
        pieces = list(cut(asset, partitions, self._cluster.runs_per_asset))
        self._say(
            f"{asset.key}: {len(stale)} of {len(asset.partitions)} partitions ({stale[0].reason}), {len(pieces)} runs"
        )
        self._stale[asset.key] = partitions
        self._at_work[asset.key] = [self._cluster.submit(asset, *piece) for piece in pieces]

    def _collect(self, key: str) -> None:
        outcomes = [self._cluster.outcome(run) for run in self._at_work[key]]
        if None in outcomes:
            return
        del self._at_work[key]
        self._manifest_of.forget(key)
        if key not in self._stale:
            return  # left by an earlier refresh; the asset still waits to be planned
        failed = [reason for reason in outcomes if reason]
        left = stale_partitions(self._graph[key], self._manifest_of)
        if left and not failed:
            failed = [f"{left[0].partition} is still stale ({left[0].reason}): a worker has other settings or code"]
        if failed:
            self._failed.add(key)
            self.failures += [f"{key}: {reason}" for reason in dict.fromkeys(failed)]
        stale = self._stale.pop(key)
        done = [partition for partition in stale if partition not in {item.partition for item in left}]
        for partition in done:
            self._made[key, partition] = self._store.require(key, partition).device_seconds
        self._say(f"{key}: {len(done)} of {len(stale)} partitions made")


def cut(asset: Asset, partitions: Sequence[str], pieces: int) -> Iterator[tuple[str, str]]:
    """(first, last) of ranges that cover `partitions` exactly, in about `pieces` equal parts."""
    size = ceil(len(partitions) / pieces)
    for start in range(0, len(partitions), size):
        yield from stretches(asset, partitions[start : start + size])


def _upstream_assets(asset: Asset) -> set[str]:
    return {upstream for partition in asset.partitions for upstream, _ in asset.upstream(partition)}
