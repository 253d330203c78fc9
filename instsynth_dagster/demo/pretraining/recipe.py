"""How a mini model is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What `segmenters.training.train` reads; one training of a mini checkpoint."""

    steps: int
    batch_size: int
    learning_rate: float
    backbone_lr_factor: float = 1.0
    weight_decay: float = 0.05
    grad_clip: float = 1.0
    mixed_precision: str = "bf16"
    gradient_checkpointing: bool = False
    processes: int = 1
    workers: int = 0
    checkpoint_every: int = 500
