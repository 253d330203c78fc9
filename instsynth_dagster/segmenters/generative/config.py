"""Sizes and loss weights of the generative segmenter; the defaults are DiffusionInst's, scaled for a street crop."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from instsynth_dagster.settings import CheckpointRef
from instsynth_dagster.settings.base import Role

Stage = Annotated[int, Field(ge=0)]


class ExtractorConfig(BaseModel):
    """The feature extractor.

    `unet`: up blocks of a diffusion UNet; `conv`: a convolutional pyramid trained from random weights, the control.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["unet", "conv"] = "unet"
    model: CheckpointRef | None = Field(None, description="unet: Stable Diffusion folder or hub id")
    stages: tuple[Stage, ...] = Field((0, 1, 2), min_length=1, description="unet: up blocks tapped, 0 the coarsest")
    timestep: int = Field(50, ge=0, le=999, description="unet: timestep whose noise is added to its input")
    caption: str = Field("", description="unet: its caption")
    truncate: bool = Field(True, description="unet: drop what follows the last tap; the features stay the same")
    random_weights: bool = Field(False, description="unet: random weights in place of the trained ones; the control")
    remove: Literal["nothing", "layers", "middle", "innermost"] = Field(
        "nothing", description="unet: blocks left out, as in BK-SDM's base, small and tiny; then distilled"
    )
    distill_steps: int = Field(300, ge=1, description="unet: of a smaller one from the whole one's features")
    tiny_vae: CheckpointRef | None = Field(None, description="unet: an AutoencoderTiny to encode with")
    tune: bool = Field(False, description="train it too, at backbone_lr_factor; else it is frozen")
    widths: tuple[int, ...] = Field((32, 64, 96), min_length=1, description="conv: channels at stride 4, 8, ...")
    layers: int = Field(1, ge=1, description="conv: residual blocks at each stride")

    @property
    def frozen(self) -> bool:
        """Whether its weights are fixed while the decoder is trained."""
        return self.kind == "unet" and not self.tune

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.kind == "unet" and not self.model:
            raise ValueError("kind unet needs a model")
        if self.random_weights and self.remove != "nothing":
            raise ValueError("random_weights leaves nothing to distil; set remove to nothing")
        return self


Predictor = Literal["class", "box", "kernel"]


class GenerativeConfig(BaseModel):
    """The decoder. Equation numbers are DiffusionInst's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[str, ...] = Field(min_length=1)
    extractor: ExtractorConfig
    num_proposals: int = Field(300, ge=1)
    dim: int = Field(256, ge=8)
    stages: int = Field(6, ge=1, description="decoder stages, each refining the boxes of the one before")
    shared_stages: bool = Field(False, description="stages share their weights; in the paper each has its own")
    heads: int = Field(8, ge=1)
    feedforward_dim: int = Field(2048, ge=1)
    dynamic_dim: int = Field(64, ge=1, description="inner width of the convolution that a proposal brings")
    mask_channels: int = Field(8, ge=1)
    rel_coords: bool = Field(True, description="give the mask head the position relative to the box; not in the paper")
    signal_scale: float = Field(2.0, gt=0)
    window: Annotated[tuple[int, int] | None, Role.INFERENCE] = Field(
        None,
        description="height, width: at inference boxes are denoised within windows of this size, which should be "
        "that of the training crops; default: the image",
    )
    sample_steps: Annotated[int, Role.INFERENCE] = Field(
        1, ge=1, description="denoising steps at inference; more are an ensemble"
    )
    renewal_threshold: Annotated[float, Role.INFERENCE] = Field(
        0.5, ge=0, le=1, description="between steps, boxes scored lower are replaced by noise"
    )
    nms: Annotated[float, Role.INFERENCE] = Field(0.5, gt=0, le=1)
    ota_candidates: int = Field(5, ge=1)
    class_weight: float = 2.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    dice_weight: float = 5.0
    views: int | None = Field(
        None,
        ge=1,
        description="training: fixed augmented views of each image, whose features are computed once and kept in "
        "memory; default: a new view at every draw. Needs a frozen extractor",
    )
    cosine_scale: float | None = Field(None, gt=0, description="classify by cosine times this (few-shot: 20)")
    train_only: tuple[Predictor, ...] = Field((), description="few-shot fine-tuning: nothing else learns")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} cannot be shared equally by {self.heads} heads")
        if self.views and not self.extractor.frozen:
            raise ValueError("views needs an extractor that does not learn: kind unet without tune")
        return self
