"""Every test process computes with one thread, Hypothesis draws from a fixed seed (and from constants of the modules
that are loaded by then), and no process is left with the long tests at the end."""

import gc
import os
import sys
from itertools import groupby
from pathlib import Path

# before the first import of torch or OpenCV: workers of pytest-xdist share the cores, and a training's last bits depend
# on the number of threads
os.environ |= {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

MODELS = {"demo", "doctor", "fuzz", "models", "refinement", "segmenters", "synthesis"}
"""Folders of tests for which a process loads libraries of models."""
_frozen = 0
"""How many modules were loaded at the last `gc.freeze`."""


@pytest.hookimpl(trylast=True)  # without those that `-m` leaves out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let every worker begin with files that hold slow tests; without such files, let only one load libraries of
    models, which takes longer than most of the tests.

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
    if not any(slow):
        stretches[-1] = [item for item in rest if _folder(item) in MODELS]
        rest = [item for item in rest if _folder(item) not in MODELS]
    for stretch in stretches:
        missing = max(0, len(items) // workers - len(stretch))
        stretch += rest[:missing]
        del rest[:missing]
    items[:] = [item for stretch in stretches for item in stretch] + rest


def _folder(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


def pytest_runtest_setup() -> None:
    """Take what imports have made out of garbage collection: every training asks for collections, and walking a million
    objects that are never garbage is most of the time of a small one."""
    global _frozen
    if len(sys.modules) > _frozen + 200:  # the libraries of models are loaded by the first test that uses them
        gc.collect()
        gc.freeze()
        _frozen = len(sys.modules)


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished run of `toy_run.make`, made once for all workers; to be copied, not changed."""
    from tests.toy_run import made_once, make

    return made_once(tmp_path_factory.getbasetemp(), "toy_run", make)
