"""Benchmarks at a tiny size: they run, and print what they promise. What they measure here means nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("orchestration.py --frames 1 --cities 2", "Dagster's share of a partition, a run each"),
        ("phases.py --frames 1", "x windows per second"),
    ],
)
def test_it_runs(command: str, printed: str) -> None:
    name, *arguments = command.split()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert printed in done.stdout
