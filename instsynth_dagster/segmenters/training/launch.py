"""The start of a training: in this process, or in several through torchrun, one for each GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.graph import TrainingRun, labels_asset, windows_asset
from instsynth_dagster.segmenters.contract import FitResult, Progress, get_segmenter
from instsynth_dagster.segmenters.training.samples import ArmDataset
from instsynth_dagster.segmenters.training.steps import WorkerSteps
from instsynth_dagster.settings import SegmenterSettings

ALL_GPUS = "INSTSYNTH_VISIBLE_GPUS"
"""Environment variable in which a process that uses one GPU keeps the list of its visible ones."""
JOB, CURVE, RESULT = "job.json", "curve.parquet", "result.json"
"""Files below the scratch folder through which the starting process and its workers communicate."""


@dataclass(frozen=True)
class Job:
    """Arguments of `fit_run` for a worker, as JSON values."""

    run: str
    recipe: dict[str, Any]
    classes: list[str]
    data: dict[str, Any]
    store: dict[str, Any]


def train_run(
    training: TrainingRun,
    recipe: SegmenterSettings,
    classes: Sequence[str],
    data: DataSet,
    store: DeclaredStore,
    *,
    out: Path,
    scratch: Path,
    device: str,
    progress: Progress | None = None,
) -> FitResult:
    """Train a segmenter on an arm; see `Segmenter.fit`.

    With `processes` above 1 in its recipe, torchrun starts that many workers, which share each batch and average their
    gradients.

    Args:
        classes: names of the classes to learn.
        data: the data set.
        store: holds the arm's training set and windows.

    Raises:
        SettingsError: the workers failed; their own message is printed above it.
        BudgetReached: raised by `progress`; the state of the last checkpoint is in `scratch`.
    """
    if recipe.processes == 1:
        return fit_run(
            training, recipe, classes, data, store, out=out, scratch=scratch, device=device, progress=progress
        )
    job = Job(
        run=training.name,
        recipe=recipe.model_dump(mode="json"),
        classes=list(classes),
        data=data.address(),
        store=store.address(),
    )
    write_atomically(scratch / JOB, json.dumps(asdict(job)).encode())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={recipe.processes}"]
    command += ["-m", "instsynth_dagster.segmenters.training.worker", "--device", device]
    command += ["--out", str(out), "--scratch", str(scratch)]
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // recipe.processes)), **os.environ}
    if ALL_GPUS in environment:  # this process has leased one GPU; each worker needs its own
        environment["CUDA_VISIBLE_DEVICES"] = environment[ALL_GPUS]
    with WorkerSteps(progress) as steps:
        code = subprocess.run(command, env=environment | steps.environment, check=False).returncode
    if steps.stopped:
        raise steps.stopped
    if code:
        raise SettingsError(
            f"segmenters: a worker of the {recipe.processes} that train {training.name} failed; see above"
        )
    result = json.loads((scratch / RESULT).read_text())
    return FitResult(out, pd.read_parquet(scratch / CURVE), result["seconds"], result["peak_memory"])


def fit_run(
    training: TrainingRun,
    recipe: SegmenterSettings,
    classes: Sequence[str],
    data: DataSet,
    store: DeclaredStore,
    *,
    out: Path,
    scratch: Path,
    device: str,
    progress: Progress | None = None,
) -> FitResult:
    """Train in this process, or this process's share where torchrun started it; see `train_run`."""
    arm = training.data.arm
    samples = store.read("training_sets", training.data.name)
    return get_segmenter(recipe.kind).fit(
        ArmDataset(samples, data, store, windows_asset(arm), labels_asset(arm)),
        recipe,
        classes=classes,
        seed=training.seed,
        out=out,
        scratch=scratch,
        device=device,
        progress=progress,
    )
