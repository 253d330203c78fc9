"""Trains one run: in this process, or in several through torchrun, one per GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.graph import TrainingRun, labels_asset, windows_asset
from instsynth_dagster.segmenters.contract import FitResult, Progress, get_segmenter
from instsynth_dagster.segmenters.training.samples import ArmDataset
from instsynth_dagster.settings import Settings

ALL_GPUS = "INSTSYNTH_VISIBLE_GPUS"
"""Where a process that took one GPU for itself keeps which ones it was given."""
SETTINGS, CURVE, RESULT = "settings.json", "curve.parquet", "result.json"
"""What the starting process and its workers tell each other, below the scratch folder."""


def train_run(
    settings: Settings,
    store: Store,
    partition: str,
    *,
    out: Path,
    scratch: Path,
    device: str,
    progress: Progress | None = None,
) -> FitResult:
    """Train the partition `<run>|<segmenter>` of `trained_segmenters`; see `Segmenter.fit`.

    With `processes` above 1 in its settings, torchrun starts that many workers, which share each batch and average
    their gradients.

    Raises:
        SettingsError: the workers failed; their own message stands above it.
    """
    recipe = settings.segmenters[partition.split("|")[1]]
    if recipe.processes == 1:
        return fit_partition(settings, store, partition, out=out, scratch=scratch, device=device, progress=progress)
    write_atomically(scratch / SETTINGS, settings.model_dump_json(exclude_unset=True).encode())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={recipe.processes}"]
    command += ["-m", "instsynth_dagster.segmenters.training.worker", partition, "--device", device]
    command += ["--out", str(out), "--scratch", str(scratch)]
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // recipe.processes)), **os.environ}
    if ALL_GPUS in environment:  # this process has leased one; the workers need theirs
        environment["CUDA_VISIBLE_DEVICES"] = environment[ALL_GPUS]
    if subprocess.run(command, env=environment, check=False).returncode:
        raise SettingsError(f"segmenters: a worker of the {recipe.processes} that train {partition} failed; see above")
    told = json.loads((scratch / RESULT).read_text())
    return FitResult(out, pd.read_parquet(scratch / CURVE), told["seconds"], told["peak_memory"])


def fit_partition(
    settings: Settings,
    store: Store,
    partition: str,
    *,
    out: Path,
    scratch: Path,
    device: str,
    progress: Progress | None = None,
) -> FitResult:
    """Train in this process, or this process's share of it where torchrun started it."""
    name, segmenter = partition.split("|")
    training = TrainingRun.parse(name)
    recipe = settings.segmenters[segmenter]
    arm = training.data.arm
    samples = store.read("training_sets", training.data.name)
    return get_segmenter(recipe.kind).fit(
        ArmDataset(samples, settings.dataset.root, store, windows_asset(arm), labels_asset(arm)),
        recipe,
        classes=settings.classes,
        seed=training.seed,
        out=out,
        scratch=scratch,
        device=device,
        progress=progress,
    )
