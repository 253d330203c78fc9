"""Training for a given time: the learning rate falls to zero as the time ends, and a later call goes on from there.

The same code serves two CPU cores and a GPU, which get through very different numbers of steps in the same minutes.
What is kept is an exponential moving average of the weights (diffusers' `EMAModel`).
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Progress
from instsynth_dagster.segmenters.training.loop import isolated_random_state
from instsynth_dagster.synthesis.overlap import map_ahead

WARM_UP, DECAY = 0.03, 0.4
"""Shares of the time in which the learning rate rises, and falls."""
STATE = "state.pt"
_LOGGED = 20
"""Steps whose mean loss is one point of the curve."""


@dataclass(frozen=True)
class TimedRecipe:
    """How long a network is trained, and how.

    minutes: wall time of one call; learning_rate: of AdamW, at its height; average: largest decay of the moving
    average of the weights; checkpoint_minutes: how often the state is written.
    """

    minutes: float
    learning_rate: float
    weight_decay: float = 0.01
    grad_clip: float = 1.0
    average: float = 0.9995
    checkpoint_minutes: float = 2.0


def rate_factor(share: float) -> float:
    """Factor on the learning rate when `share` (0..1) of the time is over: a short rise, a level, a cosine to zero."""
    if share < WARM_UP:
        return share / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * max(0.0, min(1.0, (share - 1 + DECAY) / DECAY))))


def train_within(
    model: nn.Module,
    network: nn.Module,
    batches: Callable[[int], dict[str, Tensor]],
    recipe: TimedRecipe,
    *,
    out: Path,
    scratch: Path,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train `network` in place for `recipe.minutes`, and leave the average of its weights in it.

    Args:
        model: computes a "loss" from a batch, through `network`, which is all of it that learns.
        batches: batch number 0, 1, 2, ... as a pure function of the number.
        out: where the caller writes the network; named in the result.
        scratch: the state is kept here; a later call goes on from it, with a schedule of its own.
        progress: is told seconds spent and seconds given.

    Returns:
        Curve, seconds and peak memory of all calls so far.

    Raises:
        SettingsError: the loss left the finite numbers.
    """
    with isolated_random_state():
        session = _Session(model.to(device), network, recipe, scratch, seed)
        session.run(batches, device, progress)
    return FitResult(out, session.curve(), session.seconds, _peak(device))


class _Session:
    """One call's training: what is saved between calls, and the steps."""

    def __init__(self, model: nn.Module, network: nn.Module, recipe: TimedRecipe, scratch: Path, seed: int) -> None:
        self._model, self._network, self._recipe, self._seed = model, network, recipe, seed
        self._state = scratch / STATE
        from diffusers.training_utils import EMAModel

        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in learned if p.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            fused=True,
        )
        self._average = EMAModel(network.parameters(), decay=recipe.average, use_ema_warmup=True, power=0.75)
        self._step, self.seconds, self._rows = 0, 0.0, list[dict[str, float]]()
        if self._state.exists():
            self._resume()

    def run(self, batches: Callable[[int], dict[str, Tensor]], device: str, progress: Progress | None) -> None:
        """Steps until the time is over, at least one; the average is in the network afterwards."""
        given = self._recipe.minutes * 60
        started = saved = time.monotonic()
        first, before, losses = self._step, self.seconds, list[Tensor]()
        self._network.train()
        for batch in map_ahead(batches, itertools.count(self._step)):
            elapsed = time.monotonic() - started
            if elapsed >= given and self._step > first:
                break
            losses.append(self._one({name: part.to(device) for name, part in batch.items()}, elapsed / given, device))
            self._step += 1
            self.seconds = before + time.monotonic() - started
            if len(losses) == _LOGGED:
                self._log(losses)
            if time.monotonic() - saved >= self._recipe.checkpoint_minutes * 60:
                self._save()
                saved = time.monotonic()
            if progress:
                progress(min(round(elapsed), round(given)), round(given))
        if losses:
            self._log(losses)
        self._save()
        self._average.copy_to(self._network.parameters())
        self._network.eval()

    def _one(self, batch: dict[str, Tensor], share: float, device: str) -> Tensor:
        torch.manual_seed(content_seed(self._seed, "step", self._step))
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate * rate_factor(share)
        # most CPUs only emulate bfloat16, and are ten times slower with it than with float32
        with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
            loss = self._model(**batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), self._recipe.grad_clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._average.step(self._network.parameters())
        return loss.detach()

    def _log(self, losses: list[Tensor]) -> None:
        """One more point of the curve; empties `losses`."""
        mean = float(torch.stack(losses).float().mean())
        losses.clear()
        if not math.isfinite(mean):
            raise SettingsError(f"pretraining: the loss is {mean} at step {self._step}; lower the learning rate")
        self._rows.append({"step": self._step, "loss": mean})

    def curve(self) -> pd.DataFrame:
        return pd.DataFrame(self._rows, columns=["step", "loss"])

    def _save(self) -> None:
        self._state.parent.mkdir(parents=True, exist_ok=True)
        written = self._state.with_suffix(".tmp")
        torch.save(
            {
                "network": self._network.state_dict(),
                "average": self._average.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "step": self._step,
                "seconds": self.seconds,
                "curve": self._rows,
            },
            written,
        )
        os.replace(written, self._state)

    def _resume(self) -> None:
        state: dict[str, Any] = torch.load(self._state, weights_only=True, map_location="cpu")
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._average.to(next(self._network.parameters()).device)
        self._optimizer.load_state_dict(state["optimizer"])
        self._step, self.seconds, self._rows = state["step"], state["seconds"], state["curve"]


def _peak(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
