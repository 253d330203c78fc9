"""Sizes of MaskDiff; section numbers are the paper's."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from instsynth_dagster.settings import CheckpointRef, SegmenterSettings
from instsynth_dagster.settings.base import Role


class MaskDiffConfig(BaseModel):
    """Configuration of p(mask | region, K shots, class). The paper predicts the noise; predicting the mask needs far
    fewer steps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[str, ...] = Field(min_length=1)
    detector: SegmenterSettings | None = Field(None, description="stage one: any segmenter, for its boxes")
    trained_detector: CheckpointRef | None = Field(
        None, description="a checkpoint of it to use as it is; else it is trained"
    )
    region: int = Field(128, ge=8, description="side of a region, cells")
    patch: int = Field(1, ge=1, description="cells a side that the UNet reads as one; 1: the paper's")
    pad: float = Field(0.15, ge=0, description="by which a box is enlarged")
    box_jitter: float = Field(0.1, ge=0, le=0.5, description="of training boxes, in their sides")
    blocks: tuple[int, ...] = Field((128, 256, 384), min_length=2, description="channels, finest first")
    layers: int = Field(2, ge=1, description="residual blocks of a level on the way down; one more on the way up")
    attention_levels: int = Field(1, ge=0, description="coarsest levels with attention")
    prediction: Literal["sample", "epsilon"] = "sample"
    timesteps: int = Field(1000, ge=1)
    noise_bias: float = Field(
        1.0, ge=1, description="time steps of training are T * u ** (1 / this): 1 uniform (paper), more: noisier"
    )
    condition_drop: float = Field(0.1, ge=0, lt=1, description="share of training with the class withheld")
    steps: Annotated[int, Role.INFERENCE] = Field(5, ge=1, description="of DDIM at inference")
    guidance: Annotated[float, Role.INFERENCE] = Field(0.0, ge=0, description="w of classifier-free guidance; 0: none")
    samples: Annotated[int, Role.INFERENCE] = Field(
        1, ge=1, description="masks drawn and averaged, every second one mirrored"
    )
    shots: int = Field(5, ge=1, description="K examples of each class")
    shots_mode: Literal["mean", "concat"] = Field("mean", description="concat: the paper's, for this K alone")
    min_side: int = Field(8, ge=1, description="pixels; smaller instances teach nothing")
    min_score: Annotated[float, Role.INFERENCE] = Field(
        0.05, ge=0, le=1, description="detections scored lower keep the detector's mask"
    )

    @model_validator(mode="after")
    def _halves(self) -> Self:
        if self.region % (self.patch * 2 ** (len(self.blocks) - 1)):
            raise ValueError(
                f"region {self.region} in patches of {self.patch} cannot be halved {len(self.blocks) - 1} times"
            )
        return self
