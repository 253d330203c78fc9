"""What an installed project needs that a checkout hides."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_only_the_projects_own_package_is_installed() -> None:
    from setuptools import find_packages

    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "instsynth_dagster").rglob("__init__.py")
    }
    assert set(find_packages(str(ROOT), include=include)) == found


@pytest.mark.slow
def test_dagster_understands_selections() -> None:
    """Its parser and the antlr runtime in the lock must be of one version."""
    code = "import dagster as dg; print(dg.AssetSelection.from_string('key:frames+ or group:phase_1'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]
