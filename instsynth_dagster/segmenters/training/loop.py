"""The training loop: transformers' Trainer, as a pure function of its seed and resumable bit for bit."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_model, save_model
from torch import distributed, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from instsynth_dagster.errors import BudgetReached, SettingsError
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import Progress
from instsynth_dagster.segmenters.training.micro_batches import divisors, step_in_micro_batches

WEIGHTS = "model.safetensors"
CURVE_STEPS = 10
"""Optimiser steps over which a point of a loss curve is averaged."""
_log = logging.getLogger(__name__)


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
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watch = _TrainingMonitor(progress)
    with isolated_random_state(), quiet_transformers():
        if recipe.gradient_checkpointing:
            recompute_activations(model)
        trainer = _SegmenterTrainer(
            seed=seed,
            divisible=divisible and recipe.processes == 1,
            model=model,
            args=_arguments(recipe, scratch, device),
            train_dataset=draws,
            data_collator=collate,
            callbacks=[watch],
            optimizers=(_optimizer(model, backbone, recipe), None),
        )
        trainer.remove_callback(PrinterCallback)
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


def is_first_process() -> bool:
    """Whether this is the only process of a training or the first of several, which writes the results."""
    return os.environ.get("RANK", "0") == "0"


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


class _SegmenterTrainer(Trainer):
    """Trainer whose loss samples its points from (seed, step); logged rows hold the seconds spent, resumed parts
    included.
    """

    def __init__(self, *, seed: int, divisible: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is the mean over the batch already
        self._seed, self._divisible, self._micro_batches = seed, divisible, 1
        self._module: nn.Module = kwargs["model"]

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of a batch, its gradients accumulated; in smaller micro-batches from the first one that does not fit
        into the device's memory.
        """
        batch = self.args.per_device_train_batch_size
        while True:
            try:
                return self._step(model, inputs)
            except torch.OutOfMemoryError:
                smaller = [micro_batches for micro_batches in divisors(batch) if micro_batches > self._micro_batches]
                if not smaller or not self._divisible:
                    raise SettingsError(_no_memory(batch, self._micro_batches, self._divisible)) from None
            _log.warning(
                "out of memory on the device with %s samples at once; going on with %s",
                batch // self._micro_batches,
                batch // smaller[0],
            )
            self._micro_batches = smaller[0]
            model.zero_grad()
            torch.cuda.empty_cache()

    def _step(self, model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        seed = content_seed(self._seed, "step", self.state.global_step)
        if self._micro_batches == 1:
            torch.manual_seed(seed)
            return super().training_step(model, inputs)
        model.train()
        batch = self._prepare_inputs(inputs)

        def loss_of(piece: dict[str, Any]) -> torch.Tensor:
            with self.compute_loss_context_manager():
                return self.compute_loss(model, piece)

        return step_in_micro_batches(model, batch, self._micro_batches, loss_of, self.accelerator.backward, seed)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        return model(**inputs)[
            "loss"
        ].sum()  # OneFormer's comes as (1,), RF-DETR's as () or, without instances, as (0,)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # the library renames some models' weights on saving, and then cannot resume from the new names
        Path(str(output_dir)).mkdir(parents=True, exist_ok=True)
        save_model(self._module, str(Path(str(output_dir)) / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(self._module, Path(resume_from_checkpoint) / WEIGHTS, strict=True)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # the library's estimate is made for language models, and fails on OneFormer's two inputs

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._started = time.monotonic()
        self._spent: float | None = None
        return super().train(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._spent is None:
            self._spent = self.state.log_history[-1]["seconds"] if self.state.log_history else 0.0
        logs["seconds"] = self._spent + time.monotonic() - self._started
        super().log(logs, start_time)


class _TrainingMonitor(TrainerCallback):
    """Reports progress, logs the last step too, and stops a training whose loss is non-finite or whose budget is used
    up; in the second case after a due checkpoint has been written.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._loss: tuple[float, ...] = ()
        self.stopped: BudgetReached | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._progress:
            try:
                self._progress(state.global_step, state.max_steps, *self._loss)
            except BudgetReached as reached:
                self.stopped = reached
        if args.world_size > 1 and _any_process(self.stopped is not None, args.device):
            self.stopped = self.stopped or BudgetReached("another process of this training has stopped it")
        control.should_training_stop |= self.stopped is not None
        control.should_log |= state.global_step == state.max_steps

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if logs and not math.isfinite(logs.get("loss", 0.0)):
            raise SettingsError(
                f"segmenters: the loss is {logs['loss']} at step {state.global_step}; "
                "lower learning_rate or set mixed_precision to bf16 or no"
            )
        if logs and "loss" in logs:
            self._loss = (logs["loss"],)


def _any_process(stop: bool, device: torch.device) -> bool:
    """Whether any of the processes requests a stop; all have to stop after the same step."""
    flag = torch.tensor(float(stop), device=device)
    distributed.all_reduce(flag)
    return bool(flag)


def _no_memory(batch: int, micro_batches: int, divisible: bool) -> str:
    """The remedy where the device has no memory for a batch of so many samples, or for its smallest micro-batch."""
    if divisible:
        return "segmenters: the device has no memory for one sample; lower crop or the architecture"
    return (
        f"segmenters: the device has no memory for {batch // micro_batches} samples at once; "
        "lower batch_size or crop, or set "
        "gradient_checkpointing (this training cannot use micro-batches)"
    )


def _arguments(recipe: Recipe, scratch: Path, device: str) -> TrainingArguments:
    arguments = TrainingArguments(
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
