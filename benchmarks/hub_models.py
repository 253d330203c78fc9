"""The models of `profiles/cityscapes.yaml` with random weights, laid out as the hub lays them out.

At their published sizes, or narrow. What differs between repositories is kept, because it is what breaks a first run:
shards, fp16 files beside nothing else, two text encoders, a safety checker in the index that is not there, torch files
without safetensors.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
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
from safetensors.torch import load_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    ConvNextConfig,
    ConvNextForImageClassification,
    Dinov2Config,
    Dinov2Model,
    ResNetConfig,
    ResNetForImageClassification,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
    SwinConfig,
    SwinForImageClassification,
)

from instsynth_dagster.doctor.required import RequiredModel
from instsynth_dagster.models.references import hub_reference

_TOKENIZER = "checkpoints/mini-clip"
_SD: dict[str, Any] = {"layers_per_block": 2, "out_channels": 4, "sample_size": 64}
_XL_STAGES: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
}
_SAFETY = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}

Build = Callable[[Path, bool], None]


def write_cache(cache: Path, wanted: Iterable[RequiredModel], small: bool) -> None:
    """Fill a hub cache with every repository that is wanted, one after the other."""
    for source in dict.fromkeys(model.source for model in wanted):
        reference = hub_reference(source)
        commit = reference.revision if reference.pinned else hashlib.sha1(source.encode()).hexdigest()
        place = cache / f"models--{reference.name.replace('/', '--')}"
        folder = place / "snapshots" / commit
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        BUILDERS[reference.name](folder, small)
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text(commit)
        print(f"built {reference.name}: {sum(f.stat().st_size for f in folder.rglob('*') if f.is_file()) / 1e6:.0f} MB")


def sd2_inpainting(folder: Path, small: bool) -> None:
    width, layers, heads = (32, 2, 4) if small else (1024, 23, 16)
    unet = UNet2DConditionModel(
        **_SD,
        in_channels=9,
        block_out_channels=_widths(small, 320, 640, 1280, 1280),
        attention_head_dim=[2, 2, 4, 4] if small else [5, 10, 20, 20],
        cross_attention_dim=width,
        use_linear_projection=True,
    )
    text = CLIPTextModel(_text(width, layers, heads))
    StableDiffusionInpaintPipeline(unet=unet, text_encoder=text, **_rest(small)).save_pretrained(folder)


def sdxl(folder: Path, small: bool) -> None:
    """fp16 files only, the UNet in shards."""
    one, two = (32, 32) if small else (768, 1280)
    unet = UNet2DConditionModel(
        **{**_SD, **_XL_STAGES, "sample_size": 128},
        in_channels=4,
        block_out_channels=_widths(small, 320, 640, 1280),
        transformer_layers_per_block=[1, 1, 1] if small else [1, 2, 10],
        attention_head_dim=[2, 2, 4] if small else [5, 10, 20],
        cross_attention_dim=one + two,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8 if small else 256,
        projection_class_embeddings_input_dim=two + 6 * (8 if small else 256),
    )
    rest = _rest(small)
    pipeline = StableDiffusionXLPipeline(
        unet=unet,
        vae=rest["vae"],
        text_encoder=CLIPTextModel(_text(one, 2 if small else 12, 4 if small else 12)),
        text_encoder_2=CLIPTextModelWithProjection(_text(two, 2 if small else 32, 4 if small else 20)),
        tokenizer=rest["tokenizer"],
        tokenizer_2=rest["tokenizer"],
        scheduler=EulerDiscreteScheduler(),
        add_watermarker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder, variant="fp16")
    shutil.rmtree(folder / "unet")
    size = sum(value.numel() * 2 for value in unet.state_dict().values())
    unet.save_pretrained(folder / "unet", variant="fp16", max_shard_size=size // 2)


def gligen(folder: Path, small: bool) -> None:
    """Torch files, and an index of Stable Diffusion 1 with its safety checker."""
    gligen_inpainting(folder, small)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | _SAFETY))
    _as_torch_files(folder)


def gligen_inpainting(folder: Path, small: bool) -> None:
    width, layers, heads = (32, 2, 4) if small else (768, 12, 12)
    unet = UNet2DConditionModel(
        **_SD,
        in_channels=9,
        block_out_channels=_widths(small, 320, 640, 1280, 1280),
        attention_head_dim=4 if small else 8,
        cross_attention_dim=width,
        attention_type="gated",
    )
    text = CLIPTextModel(_text(width, layers, heads))
    StableDiffusionPipeline(unet=unet, text_encoder=text, **_rest(small)).save_pretrained(folder)


def clip_l(folder: Path, small: bool) -> None:
    text = _text(32 if small else 768, 2 if small else 12, 4 if small else 12).to_dict()
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    large = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    shape = vision | {"image_size": 32, "patch_size": 8} if small else large | {"image_size": 224, "patch_size": 14}
    CLIPModel(CLIPConfig(text_config=text, vision_config=shape, projection_dim=32 if small else 768)).save_pretrained(
        folder
    )
    side = {"height": shape["image_size"], "width": shape["image_size"]}
    CLIPImageProcessor(size={"shortest_edge": side["height"]}, crop_size=side).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)


def dinov2(folder: Path, small: bool) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4} if small else {}
    Dinov2Model(Dinov2Config(**shape, image_size=518, patch_size=14)).save_pretrained(folder)


def sam(folder: Path, small: bool) -> None:
    huge = {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
        "mlp_dim": 5120,
    }
    narrow = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "global_attn_indexes": [1]}
    narrow |= {"mlp_dim": 32, "image_size": 64, "patch_size": 8, "window_size": 4, "output_channels": 16}
    narrow |= {"num_pos_feats": 8}
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8}
    decoder = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 16}
    decoder |= {"iou_head_hidden_dim": 16, "iou_head_depth": 2}
    shape = {"vision_config": narrow, "prompt_encoder_config": prompt, "mask_decoder_config": decoder}
    SamModel(SamConfig(**shape if small else {"vision_config": huge})).save_pretrained(folder)
    side, mask = (64, 16) if small else (1024, 256)
    images = SamImageProcessor(
        size={"longest_edge": side},
        pad_size={"height": side, "width": side},
        mask_size={"longest_edge": mask},
        mask_pad_size={"height": mask, "width": mask},
    )
    SamProcessor(images).save_pretrained(folder)


def resnet_50(folder: Path, small: bool) -> None:
    narrow = {"embedding_size": 8, "hidden_sizes": [8, 16, 32, 32], "depths": [1, 1, 1, 1]}
    ResNetForImageClassification(ResNetConfig(**narrow if small else {})).save_pretrained(folder)


def swin_l(folder: Path, small: bool) -> None:
    """Torch files."""
    narrow = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4}
    large = {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12}
    shape = narrow | {"image_size": 64} if small else large | {"image_size": 384}
    SwinForImageClassification(SwinConfig(**shape)).save_pretrained(folder)
    _as_torch_files(folder)


def convnext_l(folder: Path, small: bool) -> None:
    """Torch files."""
    narrow = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    large = {"hidden_sizes": [192, 384, 768, 1536], "depths": [3, 3, 27, 3]}
    ConvNextForImageClassification(ConvNextConfig(**narrow if small else large)).save_pretrained(folder)
    _as_torch_files(folder)


BUILDERS: dict[str, Build] = {
    "sd2-community/stable-diffusion-2-inpainting": sd2_inpainting,
    "stabilityai/stable-diffusion-xl-base-1.0": sdxl,
    "masterful/gligen-1-4-inpainting-text-box": gligen,
    "openai/clip-vit-large-patch14": clip_l,
    "facebook/dinov2-base": dinov2,
    "facebook/sam-vit-huge": sam,
    "microsoft/resnet-50": resnet_50,
    "microsoft/swin-large-patch4-window12-384-in22k": swin_l,
    "facebook/convnext-large-384-22k-1k": convnext_l,
}


def _widths(small: bool, *published: int) -> tuple[int, ...]:
    """A tenth of the published widths, in multiples of 32 as group normalisation wants them."""
    return tuple(max(32, width // 10 // 32 * 32) for width in published) if small else published


def _rest(small: bool) -> dict[str, Any]:
    widths = (32, 32, 32, 32) if small else (128, 256, 512, 512)
    return {
        "vae": AutoencoderKL(
            block_out_channels=widths,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1 if small else 2,
            latent_channels=4,
        ),
        "tokenizer": _tokenizer(),
        "scheduler": DDIMScheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


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


def _as_torch_files(folder: Path) -> None:
    for path in folder.rglob("*.safetensors"):
        stem = "pytorch_model" if path.stem == "model" else path.stem
        torch.save(load_file(path), path.with_name(f"{stem}.bin"))
        path.unlink()
