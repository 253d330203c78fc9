"""Every test process computes with one thread, Hypothesis draws the same cases every time, and no process is left with
the long tests at the end."""

import gc
import os
import sys
from collections.abc import Iterator
from itertools import groupby

# before the first import of torch or OpenCV: workers of pytest-xdist share the cores, and a training's last bits depend
# on the number of threads
os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.hookimpl(trylast=True)  # without those that `-m` leaves out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every worker begin with files that hold slow tests.

    Each worker of pytest-xdist is given an equal stretch of the list and works through it; one that is done takes half
    of what another has left, from its end. A file stays together, since its tests share fixtures.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    files = [list(tests) for _, tests in groupby(items, lambda item: item.path)]
    slow = [sum(item.get_closest_marker("slow") is not None for item in file) for file in files]
    stretches: list[list[pytest.Item]] = [[] for _ in range(workers)]
    weights = [0] * workers
    for count, file in sorted(zip(slow, files, strict=True), key=lambda counted: -counted[0]):
        if count:
            least = weights.index(min(weights))
            weights[least] += count
            stretches[least] += file
    rest = [item for count, file in zip(slow, files, strict=True) if not count for item in file]
    for stretch in stretches:
        missing = max(0, len(items) // workers - len(stretch))
        stretch += rest[:missing]
        del rest[:missing]
    items[:] = [item for stretch in stretches for item in stretch] + rest


def pytest_collection_finish() -> None:
    """Take what the imports have made out of garbage collection: every training asks for collections, and walking
    a million objects that are never garbage is most of the time of a small one."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def quick_instances() -> Iterator[None]:
    """An instance of Dagster in memory is not marked with the revision of its tables: nothing migrates it, and reading
    all migrations takes longer than the rest of a small run's bookkeeping."""
    with pytest.MonkeyPatch.context() as patch:
        if "dagster" in sys.modules:
            for storage in ("runs", "event_log"):
                patch.setattr(f"dagster._core.storage.{storage}.in_memory.stamp_alembic_rev", lambda *_, **__: None)
        yield
