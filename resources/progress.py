"""Progress with an estimate of the time left, on anything over a few seconds: a bar in a terminal, lines in a run's
log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

_FIRST, _LONGEST, _GROWTH = 3.0, 60.0, 1.5
"""Seconds until the first line of a log, and between lines at most; each wait is so many times the one before."""

Progress = Callable[[int, int], None]

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def telling(say: Callable[[str], None]) -> Iterator[None]:
    """While it is open, progress is told to `say` as well: to the log of a run."""
    token = _listener.set(say)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, as a `progress(done, total)` callable.

    It shows after a few seconds; where stderr is no terminal it is a line every half minute, or those of `telling`
    alone where somebody listens.
    """
    interactive, say = sys.stderr.isatty(), _listener.get()
    tell = _thinned(title, say) if say else None
    with tqdm(
        total=total,
        desc=title,
        mininterval=0.5 if interactive else 30.0,
        delay=3,
        leave=None,
        disable=bool(tell) and not interactive,
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
            if tell:
                tell(done, total)

        yield progress


def _thinned(title: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Progress:
    """Lines with the time left, fewer and fewer; what was done before the first call took none of the time."""
    started, wait = clock(), _FIRST
    told, first = started, -1

    def tell(done: int, total: int) -> None:
        nonlocal told, wait, first
        now = clock()
        first = done - 1 if first < 0 else first
        if now - told < wait or done >= total:
            return
        left = (now - started) / (done - first) * (total - done)
        say(f"{title}: {done} of {total}, about {tqdm.format_interval(left)} left")
        told, wait = now, min(wait * _GROWTH, _LONGEST)

    return tell
