"""Sizes and loss weights of FastInst; the defaults are FastInst-D3."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class FastInstConfig(BaseModel):
    """Configuration of FastInst; section numbers are those of the paper."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classes: tuple[str, ...] = Field(min_length=1)
    backbone_config: dict[str, Any] = Field(description="of a transformers backbone with strides 8, 16 and 32")
    hidden_dim: int = Field(256, ge=8)
    pyramid_dim: int = Field(64, ge=1, description="channels of each pooling branch, section 3.2")
    decoder_layers: int = Field(3, ge=1)
    num_attention_heads: int = Field(8, ge=1)
    feedforward_dim: int = Field(1024, ge=1)
    num_queries: int = Field(100, ge=1, description="instance activation-guided queries, section 3.3")
    num_auxiliary_queries: int = Field(8, ge=0)
    position_grid: int = Field(10, ge=1, description="side of the learnt position embedding")
    train_num_points: int = Field(12_544, ge=1)
    oversample_ratio: float = Field(3.0, ge=1)
    importance_ratio: float = Field(0.75, ge=0, le=1)
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    proposal_weight: float = 20.0
    location_weight: float = 1000.0
    no_object_weight: float = 0.1
    mask_guided: bool = Field(True, description="ground truth mask-guided learning, section 3.5")
