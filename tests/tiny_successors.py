"""Real pipelines of the successors with random weights, small enough to run in a blink."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel

from tests.tiny_pipelines import TOKENS, letters_tokenizer, save_tiny_xl

WIDTH = 16


def save_tiny_sd3(folder: Path) -> Path:
    parts = {f"tokenizer{suffix}": letters_tokenizer(folder / f"letters{suffix}") for suffix in ("", "_2")}
    parts |= {
        "text_encoder": transformers.CLIPTextModelWithProjection(_clip()),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(_clip()),
        "tokenizer_3": _t5_tokenizer(),
        "text_encoder_3": _t5(),
        "vae": _vae(16),
        "transformer": diffusers.SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=WIDTH,
            pooled_projection_dim=32,
        ),
    }
    return _save("StableDiffusion3Pipeline", parts, folder)


def save_tiny_flux_fill(folder: Path) -> Path:
    parts = {
        "text_encoder": transformers.CLIPTextModel(_clip()),
        "tokenizer": letters_tokenizer(folder / "letters"),
        "text_encoder_2": _t5(),
        "tokenizer_2": _t5_tokenizer(),
        "vae": _vae(4),
        "transformer": diffusers.FluxTransformer2DModel(
            # noisy and masked latents of 2x2 cells, and 8x8 mask pixels for each cell
            in_channels=16 + 16 + 4 * 4 * 4,
            out_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=WIDTH,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
    }
    return _save("FluxFillPipeline", parts, folder)


def save_tiny_flux2_klein(folder: Path) -> Path:
    parts = {
        # klein reads hidden layers 9, 18 and 27
        "text_encoder": transformers.Qwen3ForCausalLM(_qwen3(layers=28)),
        "tokenizer": _qwen_tokenizer(),
        "vae": diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
        ),
        "transformer": diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * WIDTH,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
    }
    return _save("Flux2KleinPipeline", parts, folder)


def save_tiny_z_image(folder: Path) -> Path:
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    for name in ("x_pad_token", "cap_pad_token"):
        # left empty by the constructor
        torch.nn.init.normal_(getattr(transformer, name))
    parts = {
        "text_encoder": transformers.Qwen3ForCausalLM(_qwen3(layers=2)),
        "tokenizer": _qwen_tokenizer(),
        "vae": _vae(16),
        "transformer": transformer,
    }
    return _save("ZImagePipeline", parts, folder)


def save_tiny_qwen_image(folder: Path) -> Path:
    tokenizer = _qwen_tokenizer()
    text = _qwen3(layers=2).to_dict() | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
    text = {key: value for key, value in text.items() if key not in ("model_type", "architectures", "layer_types")}
    vision = {"depth": 1, "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_heads": 2, "out_hidden_size": WIDTH}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision | {"fullatt_block_indexes": [0]})
    parts = {
        "text_encoder": transformers.Qwen2_5_VLForConditionalGeneration(config),
        "tokenizer": tokenizer,
        "vae": diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        "transformer": diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(8, 4, 4),
        ),
    }
    return _save("QwenImagePipeline", parts, folder)


def save_tiny_sdxl_inpaint(folder: Path) -> Path:
    return save_tiny_xl(folder, in_channels=9)


TINY: dict[str, Callable[[Path], Path]] = {
    "flux2_klein": save_tiny_flux2_klein,
    "flux_fill": save_tiny_flux_fill,
    "qwen_image": save_tiny_qwen_image,
    "sd3_inpaint": save_tiny_sd3,
    "sdxl_inpaint": save_tiny_sdxl_inpaint,
    "z_image": save_tiny_z_image,
}
"""How to save a tiny pipeline of each kind as a `from_pretrained` folder."""


def _save(pipeline: str, parts: dict[str, Any], folder: Path) -> Path:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    for part in parts.values():
        if isinstance(part, torch.nn.Module):
            _redraw(part)
    getattr(diffusers, pipeline)(scheduler=scheduler, **parts).save_pretrained(folder / "model")
    return folder / "model"


def _redraw(module: torch.nn.Module) -> None:
    """Random weights that are the same every time, without zero layers that would hide an input."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)


def _clip() -> transformers.CLIPTextConfig:
    return transformers.CLIPTextConfig(
        vocab_size=190,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=WIDTH,
        bos_token_id=0,
        eos_token_id=1,
    )


def _vae(latents: int) -> diffusers.AutoencoderKL:
    return diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        latent_channels=latents,
        shift_factor=0.1,
        scaling_factor=1.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def _t5() -> transformers.T5EncoderModel:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=128, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )


def _t5_tokenizer() -> transformers.T5Tokenizer:
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    return transformers.T5Tokenizer(vocab=[*letters, *((chr(code), -2.0) for code in range(97, 123))], extra_ids=0)


def _qwen3(layers: int) -> transformers.Qwen3Config:
    return transformers.Qwen3Config(
        vocab_size=300,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
    )


def _qwen_tokenizer() -> transformers.Qwen2Tokenizer:
    vocabulary = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocabulary, merges=[])
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return tokenizer
