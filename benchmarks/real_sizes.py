"""Published architectures at their real size with random weights: speed needs no training, and no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from instsynth_dagster.settings import GeneratorSettings

_TOKENIZER = "checkpoints/mini-clip"
_UNET: dict[str, Any] = {"layers_per_block": 2, "out_channels": 4}
_SD: dict[str, Any] = _UNET | {"block_out_channels": (320, 640, 1280, 1280), "sample_size": 64}


def real_size(kind: str, folder: Path, dtype: str) -> GeneratorSettings:
    """Save a pipeline of the paper's architecture for `kind` and give the paper's setting for it."""
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        settings = {"blendeddiff": _sdxl, "diffinpainting": _sd2_inpainting, "gligen": _gligen}[kind](folder / kind)
    finally:
        torch.set_default_dtype(torch.float32)
    return GeneratorSettings.model_validate(settings | {"kind": kind, "model": str(folder / kind), "dtype": dtype})


def few_steps(settings: GeneratorSettings) -> GeneratorSettings:
    """The same with four LCM steps and no guidance, as an LCM LoRA fused with the weights would run."""
    return settings.model_copy(update={"scheduler": "lcm", "steps": 4, "strength": 1.0, "guidance": 1.0})


def _sdxl(folder: Path) -> dict[str, Any]:
    unet = UNet2DConditionModel(
        **_UNET,
        in_channels=4,
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=[1, 2, 10],
        attention_head_dim=[5, 10, 20],
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )
    StableDiffusionXLPipeline(
        unet=unet,
        vae=_vae(),
        text_encoder=CLIPTextModel(_text(768, 12, 12)),
        text_encoder_2=CLIPTextModelWithProjection(_text(1280, 32, 20)),
        tokenizer=_tokenizer(),
        tokenizer_2=_tokenizer(),
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    ).save_pretrained(folder)
    return {"size": 1024, "steps": 50, "strength": 0.76, "guidance": 5.0, "batch_size": 8}


def _sd2_inpainting(folder: Path) -> dict[str, Any]:
    unet = UNet2DConditionModel(
        **_SD, in_channels=9, attention_head_dim=[5, 10, 20, 20], cross_attention_dim=1024, use_linear_projection=True
    )
    StableDiffusionInpaintPipeline(
        unet=unet, text_encoder=CLIPTextModel(_text(1024, 23, 16)), **_rest()
    ).save_pretrained(folder)
    return {"size": 512, "steps": 50, "guidance": 7.5, "batch_size": 16}


def _gligen(folder: Path) -> dict[str, Any]:
    unet = UNet2DConditionModel(
        **_SD, in_channels=4, attention_head_dim=8, cross_attention_dim=768, attention_type="gated"
    )
    StableDiffusionPipeline(unet=unet, text_encoder=CLIPTextModel(_text(768, 12, 12)), **_rest()).save_pretrained(
        folder
    )
    return {"size": 512, "steps": 50, "guidance": 7.5, "batch_size": 16}


def _rest() -> dict[str, Any]:
    return {
        "vae": _vae(),
        "tokenizer": _tokenizer(),
        "scheduler": DDIMScheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    )


def _text(width: int, layers: int, heads: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
    )


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(_TOKENIZER, model_max_length=77)
