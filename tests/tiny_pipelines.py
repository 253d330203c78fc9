"""Real diffusers pipelines with random weights, small enough to run in a blink."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

TOKENS = 24
UNET: dict[str, Any] = {
    "sample_size": 8,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}


def save_tiny_inpainting(folder: Path, in_channels: int = 9) -> Path:
    """A Stable Diffusion inpainting pipeline as a `from_pretrained` folder; the same weights every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(in_channels=in_channels, **UNET)
        pipeline = diffusers.StableDiffusionInpaintPipeline(unet=unet, **_rest(folder))
    return _saved(pipeline, folder)


def save_tiny_gligen(folder: Path, in_channels: int = 4) -> Path:
    """A text-to-image pipeline whose UNet has gated grounding layers, their gates opened."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = diffusers.UNet2DConditionModel(in_channels=in_channels, attention_type="gated", **UNET)
        for name, parameter in unet.named_parameters():
            if "alpha_" in name:
                torch.nn.init.constant_(parameter, 1.0)
        pipeline = diffusers.StableDiffusionPipeline(unet=unet, **_rest(folder))
    return _saved(pipeline, folder)


def save_tiny_xl(folder: Path, in_channels: int = 4) -> Path:
    """A Stable Diffusion XL pipeline: text-to-image, or with 9 channels inpainting."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        rest = _rest(folder)
        config = rest["text_encoder"].config
        config.projection_dim = 16
        pooled = 16 + 6 * 8  # text_embeds and six time ids of 8
        unet = diffusers.UNet2DConditionModel(
            in_channels=in_channels,
            **UNET | {"cross_attention_dim": 32},
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=pooled,
        )
        pipeline = diffusers.StableDiffusionXLPipeline(
            unet=unet,
            vae=rest["vae"],
            text_encoder=rest["text_encoder"],
            text_encoder_2=transformers.CLIPTextModelWithProjection(config),
            tokenizer=rest["tokenizer"],
            tokenizer_2=rest["tokenizer"],
            scheduler=diffusers.EulerDiscreteScheduler(num_train_timesteps=100),
            add_watermarker=False,
        )
    return _saved(pipeline, folder)


def save_tiny_guided(folder: Path, in_channels: int = 9, xl: bool = False) -> Path:
    """An inpainting or text-to-image pipeline, and in `controlnet` beside it a ControlNet that changes its pictures."""
    save = save_tiny_xl if xl else save_tiny_inpainting
    plain = diffusers.UNet2DConditionModel.from_pretrained(save(folder / "plain", in_channels=4), subfolder="unet")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        controlnet = diffusers.ControlNetModel.from_unet(plain, conditioning_embedding_out_channels=(8, 8, 8))
        for name, parameter in controlnet.named_parameters():
            if name.startswith("controlnet_"):
                torch.nn.init.normal_(parameter, std=0.2)
    controlnet.save_pretrained(folder / "controlnet")
    return save(folder, in_channels=in_channels)


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP with its tokenizer and image processor."""
    tokenizer = letters_tokenizer(folder)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": TOKENS, "bos_token_id": 0, "eos_token_id": 1}
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config=text | small,
                vision_config=small | {"image_size": 16, "patch_size": 8},
                projection_dim=16,
            )
        )
    clip.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    side = {"height": 16, "width": 16}
    transformers.CLIPImageProcessor(size=side, crop_size=side).save_pretrained(folder / "model")
    return folder / "model"


def _saved(pipeline: Any, folder: Path) -> Path:
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


def _rest(folder: Path) -> dict[str, Any]:
    """Everything of a Stable Diffusion pipeline but the UNet."""
    tokenizer = letters_tokenizer(folder)
    return {
        "vae": diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            norm_num_groups=4,
            latent_channels=4,
        ),
        "text_encoder": transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=TOKENS,
                bos_token_id=0,
                eos_token_id=1,
            )
        ),
        "tokenizer": tokenizer,
        "scheduler": diffusers.DDIMScheduler(num_train_timesteps=100),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def letters_tokenizer(folder: Path) -> transformers.CLIPTokenizer:
    """Letters only."""
    characters = [chr(code) for code in range(33, 127)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *characters, *(f"{c}</w>" for c in characters)]
    text_files = folder / "vocabulary"
    text_files.mkdir(parents=True)
    (text_files / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (text_files / "merges.txt").write_text("#version: 0.2\n")
    return transformers.CLIPTokenizer.from_pretrained(text_files, model_max_length=TOKENS)
