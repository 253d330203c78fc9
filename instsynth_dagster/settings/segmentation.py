"""Settings of segmenters and their training."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from instsynth_dagster.settings.base import Role, Size
from instsynth_dagster.settings.checkpoint import CheckpointRef
from instsynth_dagster.settings.kinds import ARCHITECTURE, Kinded


class SegmenterSettings(Kinded):
    """A segmenter and its training recipe, with the same number of optimiser steps for every arm. Kinds add their own
    settings (segmenters/kinds.py).
    """

    model: CheckpointRef | None = Field(
        None, description="pretrained segmenter, folder or hub id; overrides the architecture"
    )
    architecture: dict[str, Any] = Field(
        default_factory=dict,
        description="configuration values of the model class; those that only inference reads retrain nothing",
    )
    steps: int = Field(90_000, ge=1)
    batch_size: int = Field(4, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    backbone_lr_factor: float = Field(0.1, ge=0)
    weight_decay: float = Field(0.05, ge=0)
    grad_clip: float = Field(0.01, ge=0, description="largest norm of all gradients together; 0: not clipped")
    crop: Size = Field((360, 720), description="height, width of a training crop")
    scale_range: tuple[float, float] = Field((0.5, 2.0), description="of the image, before cropping")
    synthetic_fraction: float = Field(0.5, gt=0, lt=1, description="share of synthetic windows in a batch, on average")
    repeat_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="LVIS repeat factors: samples with classes rarer than this share are drawn more often",
    )
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    gradient_checkpointing: Annotated[bool, Role.EXECUTION] = Field(
        False, description="less memory for about a third more time"
    )
    processes: Annotated[int, Role.EXECUTION] = Field(
        1, ge=1, description="one per GPU, through torchrun; each takes its share of the batch"
    )
    workers: Annotated[int, Role.EXECUTION] = Field(0, ge=0)
    checkpoint_every: Annotated[int, Role.EXECUTION] = Field(1000, ge=1)
    test_size: Annotated[Size | None, Role.INFERENCE] = Field(
        None, description="height, width fed at inference; default: the image's own"
    )
    max_detections: Annotated[int, Role.INFERENCE] = Field(100, ge=1)

    @property
    def start(self) -> CheckpointRef | None:
        """The checkpoint from which training starts; None: random weights."""
        return self.model

    @property
    def applied_architecture(self) -> dict[str, Any]:
        """The entries of `architecture` that only inference reads, also those of segmenters inside it."""
        return self.entries_for(ARCHITECTURE, {Role.INFERENCE}) or {}

    @field_validator("scale_range")
    @classmethod
    def _ascending(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not 0 < bounds[0] <= bounds[1]:
            raise ValueError("give a lower bound above 0 and an upper bound that is not below it")
        return bounds

    @model_validator(mode="after")
    def _batch_splits(self) -> Self:
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared equally by {self.processes} processes")
        return self
