"""Device seconds that have been used, and a budget that stops work before it is exceeded."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TypeVar

from instsynth_dagster.artifacts.storage.base import Storage
from instsynth_dagster.errors import BudgetReached

LEDGER = ".costs"
"""Folder of the ledger: one small file for each attempt to make a partition on the device, finished or not."""
HOUR = 3600.0
_REACHED = (
    "costs.device_hours: the next piece of work would exceed the budget; finished work stays, and a larger budget goes "
    "on from there"
)

T = TypeVar("T")
Progress = Callable[..., None]


@dataclass(frozen=True)
class Attempt:
    """One attempt to make a partition; `at` is the time at which it ended, in seconds since 1970."""

    fingerprint: str
    seconds: float
    finished: bool
    at: float


class Ledger:
    """Device seconds of all attempts to make any partition of a store, failed ones included."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def spent(self) -> float:
        """Device seconds of all attempts in the store."""
        return sum(attempt.seconds for attempt in self._attempts(LEDGER))

    def unfinished(self, folder: str, fingerprint: str) -> float:
        """Seconds recorded for a partition under a fingerprint since it was last finished."""
        mine = [a for a in self._attempts(f"{LEDGER}/{folder}") if a.fingerprint == fingerprint]
        done = max((attempt.at for attempt in mine if attempt.finished), default=0.0)
        return sum(attempt.seconds for attempt in mine if attempt.at > done)

    def note(self, folder: str, fingerprint: str, seconds: float, finished: bool) -> None:
        """Record an attempt of so many device seconds."""
        attempt = Attempt(fingerprint, round(seconds, 3), finished, time.time())
        self._storage.write(f"{LEDGER}/{folder}/{uuid.uuid4().hex}.json", json.dumps(asdict(attempt)).encode())

    def _attempts(self, folder: str) -> list[Attempt]:
        notes = [f"{folder}/{name}" for name in self._storage.names(folder) if name.endswith(".json")]
        return [Attempt(**json.loads(content)) for content in self._storage.read_many(notes).values()]


class Meter:
    """Device seconds of one attempt, and whether the next piece of work fits into the rest of the budget.

    A piece is expected to take as long as the longest one so far, or `expected` seconds before the first.
    """

    def __init__(self, left: float | None = None, expected: float = 0.0) -> None:
        self.used = 0.0
        self.longest = 0.0
        self._left, self._expected = left, expected
        self._refused = False

    def spend(self, seconds: float) -> None:
        """Charge device seconds to the budget."""
        self.used += seconds
        self.longest = max(self.longest, seconds)

    def while_affordable(self, pieces: Iterable[T]) -> Iterator[T]:
        """The pieces, up to the first that would exceed the budget."""
        for piece in pieces:
            if not self._affords(self.longest or self._expected):
                self._refused = True
                return
            yield piece

    def check_refused(self) -> None:
        """Check that `while_affordable` left nothing out.

        Raises:
            BudgetReached: it left pieces out.
        """
        if self._refused:
            raise BudgetReached(_REACHED)

    def check(self) -> None:
        """Check that the next piece of work fits into the budget.

        Raises:
            BudgetReached: it does not.
        """
        if not self._affords(self.longest or self._expected):
            raise BudgetReached(_REACHED)

    def charge_steps(self, progress: Progress, every: int, devices: int = 1) -> Progress:
        """The `progress` of a training that charges its steps to this meter.

        A piece of work is the interval between two checkpoints, `every` steps. None is started that cannot be finished,
        so that no paid work is lost. A second on several devices counts as that many device seconds.
        """
        started, first = time.monotonic(), 0

        def step(done: int, total: int, *loss: float) -> None:
            nonlocal first
            first = first or done
            self.used = (time.monotonic() - started) * devices
            progress(done, total, *loss)
            ahead = min(every - done % every, total - done)
            if (done == first or ahead == every) and not self._affords(ahead * self.used / (done - first + 1)):
                raise BudgetReached(_REACHED)

        return step

    def _affords(self, seconds: float) -> bool:
        return self._left is None or self.used + seconds <= self._left
