"""Progress with an estimate of the remaining time, for work of more than a few seconds: lines in the run of an asset, a
bar elsewhere.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tqdm import tqdm

_FIRST, _LONGEST, _GROWTH = 3.0, 60.0, 1.5
"""Seconds before the first line, most seconds between lines, and the factor by which intervals grow."""

Progress = Callable[..., None]
"""Called as progress(done, total), and with the newest loss as a third argument where something is trained."""

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


@contextmanager
def reporting_to(log: Callable[[str], None]) -> Iterator[None]:
    """Context in which progress is also passed to `log`, such as the log of a run."""
    token = _listener.set(log)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """Progress as a callable.

    Inside `reporting_to`, that is in the run of an asset, progress is written as lines to stderr and to the run's log,
    because several assets may run at once; elsewhere it is a bar on stderr. Both appear after a few seconds.
    """
    if log := _listener.get():

        def report(line: str) -> None:
            log(line)
            print(line, file=sys.stderr, flush=True)

        yield _thinned(title, report)
        return
    with tqdm(total=total, desc=title, mininterval=0.5 if sys.stderr.isatty() else 30.0, delay=3, leave=None) as bar:

        def progress(done: int, total: int, loss: float | None = None) -> None:
            bar.total = total
            if loss is not None:
                bar.set_postfix(loss=f"{loss:.4g}", refresh=False)
            bar.update(done - bar.n)

        yield progress


def _thinned(title: str, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> Progress:
    """Progress as lines at growing intervals, with the remaining time; work before the first call is not part of the
    estimate.
    """
    started, wait = clock(), _FIRST
    reported, first = started, -1

    def report(done: int, total: int, loss: float | None = None) -> None:
        nonlocal reported, wait, first
        now = clock()
        first = done - 1 if first < 0 else first
        if now - reported < wait or done >= total:
            return
        left = (now - started) / (done - first) * (total - done)
        about = "" if loss is None else f", loss {loss:.4g}"
        log(f"{title}: {done} of {total}{about}, about {tqdm.format_interval(left)} left")
        reported, wait = now, min(wait * _GROWTH, _LONGEST)

    return report
