"""A real StableDiffusionInpaintPipeline with random weights, small enough to run in a blink."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


def save_tiny_inpainting(folder: Path, in_channels: int = 9) -> Path:
    """Write the pipeline as a `from_pretrained` folder; the same weights every time."""
    characters = [chr(code) for code in range(33, 127)]
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *characters, *(f"{c}</w>" for c in characters)]
    text_files = folder / "vocabulary"
    text_files.mkdir(parents=True)
    (text_files / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (text_files / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(text_files, model_max_length=24)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = StableDiffusionInpaintPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 8, 8),
                down_block_types=("DownEncoderBlock2D",) * 3,
                up_block_types=("UpDecoderBlock2D",) * 3,
                norm_num_groups=4,
                latent_channels=4,
            ),
            unet=UNet2DConditionModel(
                sample_size=8,
                in_channels=in_channels,
                out_channels=4,
                block_out_channels=(8, 16),
                layers_per_block=1,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                cross_attention_dim=16,
                attention_head_dim=4,
                norm_num_groups=4,
            ),
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(vocabulary),
                    hidden_size=16,
                    intermediate_size=16,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    max_position_embeddings=24,
                    bos_token_id=0,
                    eos_token_id=1,
                )
            ),
            tokenizer=tokenizer,
            scheduler=DDIMScheduler(num_train_timesteps=100),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder / "model")
    return folder / "model"
