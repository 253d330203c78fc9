"""The training loop: transformers' Trainer, as a pure function of its seed and resumable bit for bit."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
import transformers
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset

from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.segmenters.contract import Progress

CURVE_STEPS = 10
"""Optimiser steps over which a point of a loss curve is averaged."""


class Recipe(Protocol):
    """The settings that a training loop reads; `SegmenterSettings` is one."""

    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def backbone_lr_factor(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def grad_clip(self) -> float: ...
    @property
    def mixed_precision(self) -> str: ...
    @property
    def gradient_checkpointing(self) -> bool: ...
    @property
    def processes(self) -> int: ...
    @property
    def workers(self) -> int: ...
    @property
    def checkpoint_every(self) -> int: ...


@dataclass(frozen=True)
class TrainingLog:
    """The result of a training besides the weights; see `FitResult`."""

    curve: pd.DataFrame
    seconds: float
    peak_memory: int


def train(
    model: nn.Module,
    draws: Dataset,
    recipe: Recipe,
    *,
    collate: Callable[[list[Any]], dict[str, Any]],
    backbone: nn.Module | None = None,
    seed: int,
    scratch: Path,
    device: str,
    progress: Progress | None,
    divisible: bool = True,
) -> TrainingLog:
    """Train a model in place on draws 0, 1, 2, ... for `recipe.steps` steps: AdamW, polynomial decay 0.9, clipped
    gradients.

    Every `recipe.checkpoint_every` steps the state is written to `scratch`; a later call continues after the last
    complete one. The global random number generators are restored. Where the device's memory does not hold a batch, it
    is processed in micro-batches whose losses and gradients add up to its own (`training.micro_batches`).

    Args:
        model: its forward takes a batch of `batch_size` items made by `collate` and returns a "loss".
        draws: at least steps x batch_size items.
        backbone: the part of `model` that is trained at `backbone_lr_factor` of the learning rate.
        divisible: whether the loss is a sum over images of terms that `shared.normaliser` divides, so that a batch may
            be processed in micro-batches.

    Raises:
        SettingsError: the loss became non-finite, or the device has no memory for a batch or a micro-batch of it.
        BudgetReached: raised by `progress`; the state of the last checkpoint is in `scratch`.
    """
    from instsynth_dagster.segmenters.training.trainer import SegmenterTrainer, TrainingMonitor  # seconds to load

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watch = TrainingMonitor(progress)
    with isolated_random_state(), quiet_transformers():
        if recipe.gradient_checkpointing:
            recompute_activations(model)
        trainer = SegmenterTrainer(
            seed=seed,
            divisible=divisible and recipe.processes == 1,
            model=model,
            args=_arguments(recipe, scratch, device),
            train_dataset=draws,
            data_collator=collate,
            callbacks=[watch],
            optimizers=(_optimizer(model, backbone, recipe), None),
        )
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=_last_checkpoint(scratch))
    if watch.stopped:
        raise watch.stopped
    history = pd.DataFrame([row for row in trainer.state.log_history if "loss" in row])
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _process_peak()
    return TrainingLog(mean_curve(history), float(history["seconds"].iloc[-1]), peak)


def mean_curve(history: pd.DataFrame) -> pd.DataFrame:
    """Means of the losses of `CURVE_STEPS` optimiser steps each, the last one of the remaining steps.

    Args:
        history: a row for each step, with the columns step, loss and learning_rate.

    Returns:
        The same columns: step and learning rate are those of the last step of each mean.
    """
    windows = history.groupby((history["step"] - 1) // CURVE_STEPS)
    curve = windows[["step", "learning_rate"]].last()
    # summed in single precision and in order, as the library does
    sums = windows["loss"].agg(lambda losses: float(np.cumsum(losses.to_numpy(np.float32))[-1]))
    curve["loss"] = sums / windows.size()
    return curve[["step", "loss", "learning_rate"]].reset_index(drop=True)


@contextmanager
def isolated_random_state() -> Iterator[None]:
    """Context on whose exit the global generators of Python, NumPy and torch are restored; libraries inside may seed
    them.
    """
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def recompute_activations(model: nn.Module) -> None:
    """Keep only the inputs of each layer or stage and recompute the rest in the backward pass.

    The layers are the members of the outermost `ModuleList`s, which works for every architecture, unlike the library's
    own option.
    """
    for module in _outermost_layers(model):
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)


def _outermost_layers(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _outermost_layers(child)


def _arguments(recipe: Recipe, scratch: Path, device: str) -> transformers.TrainingArguments:
    arguments = transformers.TrainingArguments(
        output_dir=str(scratch),
        max_steps=recipe.steps,
        per_device_train_batch_size=recipe.batch_size // recipe.processes,
        ddp_find_unused_parameters=True,
        train_sampling_strategy="sequential",
        dataloader_num_workers=recipe.workers,
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"power": 0.9, "lr_end": 0.0},
        max_grad_norm=recipe.grad_clip,
        bf16=recipe.mixed_precision == "bf16",
        fp16=recipe.mixed_precision == "fp16",
        use_cpu=device == "cpu",
        save_steps=recipe.checkpoint_every,
        save_total_limit=2,
        # no checkpoint falls inside a mean, so a resumed curve equals the undisturbed one
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # targets are lists, which DataParallel cannot scatter; several GPUs: torchrun
    return arguments


def _optimizer(model: nn.Module, backbone: nn.Module | None, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; no weight decay on norms, biases and embeddings."""
    in_backbone = {id(parameter) for parameter in backbone.parameters()} if backbone else set()
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        decays = parameter.ndim > 1 and id(parameter) not in embeddings
        groups.setdefault((id(parameter) in in_backbone, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": recipe.learning_rate * (recipe.backbone_lr_factor if slow else 1.0),
                "weight_decay": recipe.weight_decay if decays else 0.0,
            }
            for (slow, decays), parameters in groups.items()
        ],
        lr=recipe.learning_rate,
        fused=True,
    )


def _last_checkpoint(scratch: Path) -> str | None:
    """The newest checkpoint whose state file, written last, is complete."""
    found = sorted(scratch.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)
    for folder in found:
        try:
            json.loads((folder / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        return str(folder)
    return None


def _process_peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
