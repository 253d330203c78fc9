"""What every `dagster` command and every code server pays before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD_ALL = """
import sys
from pathlib import Path
from instsynth_dagster.definitions import build_definitions
from instsynth_dagster.settings import load_settings
for params in Path("profiles").glob("*.yaml"):
    build_definitions(load_settings(params), load_settings)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.slow
def test_definitions_load_no_network_library() -> None:
    """Neither those of `params.yaml`, which the import itself builds, nor those of any profile."""
    done = subprocess.run([sys.executable, "-c", BUILD_ALL], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    loaded = set(done.stdout.split())
    heavy = {"torch", "torchvision", "transformers", "diffusers", "torchmetrics", "scipy", "sklearn", "matplotlib"}
    assert "dagster" in loaded
    assert loaded & heavy == set()
