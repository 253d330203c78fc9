"""transformers' Trainer with reproducible steps, micro-batches and a budget."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_model, save_model
from torch import distributed, nn

from instsynth_dagster.errors import BudgetReached, SettingsError
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import Progress
from instsynth_dagster.segmenters.training.micro_batches import divisors, step_in_micro_batches

WEIGHTS = "model.safetensors"
_log = logging.getLogger(__name__)


class SegmenterTrainer(transformers.Trainer):
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


class TrainingMonitor(transformers.TrainerCallback):
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
