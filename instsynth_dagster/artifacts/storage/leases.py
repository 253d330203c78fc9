"""Locks for object stores, which have none: numbered objects, each created by exactly one process and renewed while it
lives.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from typing import Protocol, Self

from instsynth_dagster.artifacts.waiting import wait_while
from instsynth_dagster.errors import LockLost, UserError

TERM = 30.0
"""Seconds after which a lease that is not renewed may be taken over."""


class Objects(Protocol):
    """The operations of an object store that leases use; `create` must let exactly one of several writers succeed."""

    def create(self, path: str, content: bytes) -> bool: ...
    def read(self, path: str) -> bytes: ...
    def write(self, path: str, content: bytes) -> None: ...
    def names(self, folder: str) -> list[str]: ...
    def remove(self, folder: str, entries: list[str]) -> None: ...


class Lease:
    """Context manager that holds a name.

    The object with the highest number belongs to the holder. The name is free when that object says so, or has not
    changed for `term` seconds by the clock of the waiting process; then the next number may be created, which only one
    process can. The highest number is never removed, so a holder that was suspended beyond its term finds a higher one
    (`check`).
    """

    def __init__(
        self, objects: Objects, folder: str, holder: str, log: Callable[[str], None], term: float = TERM
    ) -> None:
        self._objects, self._folder, self._holder, self._log, self._term = objects, folder, holder, log, term
        self._owner = {"process": os.getpid(), "host": platform.node(), "id": uuid.uuid4().hex}
        self._stop = threading.Event()
        self._renewals = 0
        self._lost = False
        self._seen: tuple[bytes, float] = (b"", 0.0)

    def __enter__(self) -> Self:
        wait_while(self._obstacle, self._log, every=min(1.0, self._term / 4))
        self._heart = threading.Thread(target=self._renew_regularly, daemon=True)
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._heart.join()
        if not self._lost:
            self._objects.write(self._path(self._number), self._content(released=True))

    def check(self) -> None:
        """Check that the lease is still held.

        Raises:
            LockLost: a higher number has been created.
        """
        if self._lost or max(self._numbers(), default=0) != self._number:
            self._lost = True
            raise LockLost(f"{self._folder}: the lease was taken over while this process did not answer")

    def renew(self) -> None:
        """Renew the lease. Raises LockLost as `check` does."""
        self.check()
        self._renewals += 1
        self._objects.write(self._path(self._number), self._content())

    def _obstacle(self) -> str:
        """Take the name where it is free and return ""; otherwise the description of its holder."""
        numbers = self._numbers()
        newest = max(numbers, default=0)
        held = self._content_of(newest) if newest else b""
        if newest and not self._free(held):
            return f"{self._holder} ({_described(held)})"
        self._number = newest + 1
        if not self._objects.create(self._path(self._number), self._content()):
            return f"{self._holder} (another process)"
        now = self._numbers()
        if max(now) > self._number:  # other processes held the name since the first listing, and removed numbers
            self._objects.remove(self._folder, [_name(self._number)])
            return f"{self._holder} (another process)"
        self._objects.remove(self._folder, [_name(number) for number in now if number < self._number])
        return ""

    def _free(self, held: bytes) -> bool:
        if not held or json.loads(held)["released"]:
            return True
        if held != self._seen[0]:
            self._seen = (held, time.monotonic())
        return time.monotonic() - self._seen[1] > self._term

    def _content_of(self, number: int) -> bytes:
        try:
            return self._objects.read(self._path(number))
        except FileNotFoundError:  # its successor has just removed it
            return self._content()

    def _renew_regularly(self) -> None:
        while not self._stop.wait(self._term / 4):
            try:
                self.renew()
            except LockLost:
                return
            except (OSError, UserError):
                continue  # the store does not answer; `check` raises before anything is committed

    def _numbers(self) -> list[int]:
        return [int(name.removesuffix(".json")) for name in self._objects.names(self._folder)]

    def _path(self, number: int) -> str:
        return f"{self._folder}/{_name(number)}"

    def _content(self, released: bool = False) -> bytes:
        return json.dumps({**self._owner, "renewals": self._renewals, "released": released}).encode()


def _name(number: int) -> str:
    return f"{number:08d}.json"


def _described(held: bytes) -> str:
    owner = json.loads(held)
    return f"process {owner['process']} on {owner['host']}"
