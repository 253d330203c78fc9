"""Progress with an estimate of the time left, on anything over a few seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, as a `progress(done, total)` callable.

    It shows after a few seconds; where stderr is no terminal it is a line every half minute.
    """
    interactive = sys.stderr.isatty()
    interval = 0.5 if interactive else 30.0
    with tqdm(total=total, desc=title, mininterval=interval, delay=3, leave=None, ascii=not interactive) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
