"""A project whose partitions are all made, without making them for every test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.assets.test_graph import Project


@pytest.fixture(scope="session")
def bring_up_to_date(tmp_path_factory) -> Callable[[Project], None]:
    """Gives a new project the artifacts of one with the same data, as `dvc pull` would, and refreshes it."""
    source = tmp_path_factory.mktemp("refreshed")
    Project(source).refresh()

    def bring(project: Project) -> None:
        for part in ("artifacts", "exports"):
            shutil.copytree(source / part, Path(project.root, part), dirs_exist_ok=True)
        project.refresh()

    return bring
