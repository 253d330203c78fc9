"""How a mini model is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch


def fast_precision() -> Literal["no", "bf16"]:
    """The mixed precision that trains fastest here: bfloat16 on a GPU, none on a CPU, most of which only emulate it."""
    return "bf16" if torch.cuda.is_available() else "no"


@dataclass(frozen=True)
class Recipe:
    """What `segmenters.training.train` reads; one training of a mini checkpoint."""

    steps: int
    batch_size: int
    learning_rate: float
    backbone_lr_factor: float = 1.0
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    mixed_precision: str = field(default_factory=fast_precision)
    gradient_checkpointing: bool = False
    processes: int = 1
    workers: int = 0
    checkpoint_every: int = 500
