"""A finished run of the graph on a drawn city that many tests start from."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.costs import LEDGER
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.settings import Settings
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.instances import empty_instance
from tests.segmenters.toy import tiny
from tests.tiny_pipelines import save_tiny_inpainting

CLASSES = ("car", "person", "bicycle")
CROPS = "diffinpainting/inpainted_crops"
MODEL = "model"
"""Folder of the pipeline that has painted."""
ROWS_PER_PART = 2
ARMS = ["real", "diffinpainting"]
SEGMENTERS = {"m": tiny(steps=8, checkpoint_every=1, crop=(64, 128)).model_dump(mode="json")}


def raw_settings(root: Path, model: Path, **changes: Any) -> dict[str, Any]:
    """A params file's content; artifacts below `root`."""
    return {
        "device": "cpu",
        "artifacts": {"root": str(root / "artifacts"), "exports": str(root / "exports")},
        "dataset": {
            "root": str(root / "data"),
            "train_cities": ["oakham"],
            "val_cities": ["pinford"],
            "demo_city": {"width": 256, "height": 128, "frames_per_city": 4},
        },
        "classes": list(CLASSES),
        "selection": {"min_area": 60, "k": 3, "quota": 6},
        "prompts": {name: {"templates": [f"a photo of a {{color}} {name}"], "colors": ["red"]} for name in CLASSES},
        "generators": {
            "diffinpainting": {
                "kind": "diffinpainting",
                "model": str(model),
                "size": 32,
                "steps": 4,
                "guidance": 3.0,
                "batch_size": 2,
            }
        },
        "integration": {"window_size": [256, 128]},
    } | changes


def run(raw: dict[str, Any], rows_per_part: int = 64) -> Store:
    """Refresh everything that the settings name."""
    settings = Settings.model_validate(raw)
    graph = build_graph(settings)
    resources = build_resources(settings)
    resources["store"].rows_per_part = rows_per_part
    with empty_instance() as instance:
        workers = InThisProcess(build_assets(graph), resources, instance)
        refresh(graph, resources["store"], workers, lambda _: None)
    return resources["store"]


def toy_settings(toy_run: Path) -> dict[str, Any]:
    """The params file's content of the finished run in this folder."""
    return raw_settings(toy_run, toy_run / MODEL, arms=ARMS, segmenters=SEGMENTERS)


def make(folder: Path) -> None:
    """Draw a city, repaint it and train on it."""
    assert save_tiny_inpainting(folder) == folder / MODEL
    run(toy_settings(folder), ROWS_PER_PART)


def copied(toy_run: Path, folder: Path, above: str = "") -> dict[str, Any]:
    """Copy the run's artifacts below `folder`; gives the section `dataset` under which they are up to date, but for the
    export, which belongs to the folder of another run.

    Args:
        above: copy only what this asset reads, and what that reads, and so on.
    """
    raw = toy_settings(toy_run)
    shutil.copytree(toy_run / "artifacts", folder / "artifacts")
    graph = build_graph(Settings.model_validate(raw))
    read = {above}
    for key, asset in reversed(graph.items()):
        if key in read:
            read |= {name for partition in asset.partitions for name, _ in asset.upstream(partition)}
    for key in graph:
        if above and key not in read - {above}:
            for place in (folder / "artifacts", folder / "artifacts" / LEDGER):
                shutil.rmtree(place / key, ignore_errors=True)
    return raw["dataset"]


def made_once(temporary: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of a test session to ask for it fills.

    Args:
        temporary: pytest's temporary folder of this process; those of the workers of pytest-xdist lie in one of the
            session.
        make: fills the folder that it is given.
    """
    folder = (temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary) / name
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a worker that failed has left
            folder.mkdir()
            make(folder)
            done.touch()
    return folder
