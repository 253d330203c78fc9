"""Sizes and losses of SISeg."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from instsynth_dagster.settings import CheckpointRef, SegmenterSettings
from instsynth_dagster.settings.base import Role


class SISegConfig(BaseModel):
    """Displacement field and boundary, trained on semantic maps alone, or on instances where they are annotated.

    Distances are in cells of the output grid; a cell is `STRIDE` pixels of the network's input.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[str, ...] = Field(min_length=1)
    supervision: Literal["semantic", "instance"] = Field("semantic", description="what training may look at")
    widths: tuple[int, ...] = Field((32, 64, 96, 128, 128), min_length=2, description="channels at stride 2, 4, 8, ...")
    radius: int = Field(10, ge=1, description="of the pairs that are compared")
    offsets: int = Field(20, ge=1, description="pair offsets drawn at each step")
    gauge_weight: float = Field(1.0, ge=0, description="mean displacement of a component is zero; 0: as published")
    background_weight: float = Field(0.2, ge=0, description="displacement is small where nothing has instances")
    centroid_weight: float = Field(
        10.0, ge=0, description="instance supervision: of the error over the root of the area"
    )
    boundary_weight: float = Field(1.0, ge=0)
    seed_threshold: Annotated[float, Role.INFERENCE] = Field(
        1.0, gt=0, description="cells; displacement below it marks a centroid"
    )
    seed_share: Annotated[float, Role.INFERENCE] = Field(
        0.1, ge=0, description="or below this share of the square root of its piece's area"
    )
    refine_steps: Annotated[int, Role.INFERENCE] = Field(100, ge=1, description="of following the displacement")
    walk_radius: Annotated[int, Role.INFERENCE] = Field(5, ge=1)
    walk_beta: Annotated[float, Role.INFERENCE] = Field(
        10.0, gt=0, description="exponent of the affinity in propagation"
    )
    walk_steps: Annotated[int, Role.INFERENCE] = Field(64, ge=0, description="of propagation; 0: none")
    min_area: Annotated[int, Role.INFERENCE] = Field(20, ge=0, description="pixels; smaller pieces are dropped")
    semantics: SegmenterSettings | None = Field(None, description="segmenter whose semantic maps are read at inference")
    trained_semantics: CheckpointRef | None = Field(
        None, description="a checkpoint of it to use as it is; else it is trained"
    )

    @model_validator(mode="after")
    def _source(self) -> Self:
        if self.trained_semantics and not self.semantics:
            raise ValueError("trained_semantics needs semantics, which says what kind it is")
        return self
