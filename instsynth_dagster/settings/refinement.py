"""Settings of the refinement of synthetic windows' labels, and of the features that it compares."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from instsynth_dagster.settings.base import Section
from instsynth_dagster.settings.checkpoint import CheckpointRef


class FeatureSettings(Section):
    """A frozen feature extractor."""

    kind: Literal["backbone", "clip", "diffusion", "segmenter"] = "backbone"
    model: CheckpointRef = Field(
        description="folder or hub id: ResNet, ConvNeXt, Swin, DINOv2 (backbone), Mask2Former (segmenter), CLIP, or "
        "Stable Diffusion (diffusion)"
    )
    stages: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=1, description="of a backbone, 0 finest"
    )
    scale: float = Field(1.0, gt=0, description="of the image before it is read; finer grids from 2")
    timestep: int = Field(100, ge=0, le=999, description="diffusion: timestep whose noise is added to the UNet's input")
    caption: str = Field("", description="diffusion: its caption")


class BoundarySettings(Section):
    """SABR: the refiner of borders, and the conditions under which its proposal is used."""

    kind: Literal["grabcut", "sam", "segment_anything"] = "grabcut"
    model: CheckpointRef | None = Field(
        None, description="sam: folder or hub id of SAM, SAM 2 or SAM 3 tracker in transformers"
    )
    checkpoint: CheckpointRef | None = Field(None, description="segment_anything: its weights")
    architecture: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="of the checkpoint, checked before it is read"
    )
    points: int = Field(1, ge=0, description="interior points given beside the box")
    band: int = Field(4, ge=1, description="pixels on either side of a border that may be rewritten")
    min_iou: float = Field(
        0.5, ge=0, le=1, description="of the proposal with the current mask; below it the proposal is of another object"
    )
    min_score: float = Field(0.7, ge=0, le=1, description="of the refiner itself")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.kind == "sam" and not self.model:
            raise ValueError("kind sam needs a model")
        if self.kind == "segment_anything" and not (self.checkpoint and self.sha256):
            raise ValueError("kind segment_anything needs a checkpoint and its sha256")
        return self


class RefinementSettings(Section):
    """Syn4Seg's refinement of synthetic instances: prototypes filter (APF) and relabel (APR), SABR corrects borders."""

    features: FeatureSettings
    min_cosine: float = Field(0.5, ge=-1, le=1, description="APF: lambda, of a region with its class's prototype")
    blend: float = Field(0.5, ge=0, le=1, description="APR: beta, global against the image's own prototype")
    min_score: float = Field(0.5, ge=-1, le=1, description="APR: cosine that a free pixel's label must reach")
    margin: float = Field(0.05, ge=0, description="APR: lead of the winner over the next")
    boundary: BoundarySettings | None = BoundarySettings()
    min_left: float = Field(0.5, ge=0, le=1, description="an instance with less of its area becomes ignored")
    support_frames: int = Field(20, ge=1, description="train frames of each city that prototypes are made of")
