"""What a refresh on one machine and a refresh of a cluster share: one at a time, until nothing is damaged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from instsynth_dagster.artifacts.locking import refresh_lock
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import UserError
from instsynth_dagster.graph.staleness import PartitionRef

CHANGED = ".changed"
"""Touched below the store by every refresh that made something."""

Made = dict[PartitionRef, float]
"""Device seconds of each partition that a refresh has made so far."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh made and what it cost: partitions, seconds of the wall and of the device."""

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


def walk_until_whole(store: Store, walk: Callable[[Made], str], say: Callable[[str], None]) -> Refreshed:
    """Walk a graph, and again as often as a run fails because it found a damaged file, which is now stale itself.

    One refresh at a time works on a store; a second one waits.

    Args:
        walk: makes what is stale and notes it in its argument. Returns "" when all is made, or the failure that a
            damaged file is behind.

    Raises:
        dagster.Failure: of `walk`, for any other failure, or for a store that cannot be locked or reached.
    """
    started, made = time.monotonic(), Made()
    try:
        with refresh_lock(store.storage, Path.cwd(), say):
            while failure := walk(made):
                say(f"{failure}; going on with it")
            if made:
                store.storage.write(CHANGED, b"")
    except (UserError, ConnectionError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from None
    say("nothing is stale" if not made else f"{len(made)} partitions made")
    return Refreshed(len(made), time.monotonic() - started, sum(made.values()))
