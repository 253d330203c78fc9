"""mini-mask2former, mini-fastinst and mini-oneformer: an "Objects365 in miniature" for the demo's segmenters.

On real streets nobody trains a segmenter from a bare backbone: it starts from weights that know what objects are and
where they end. Here small segmenters learn to find procedural instances from boxes alone (the box given as the mask).
Training on a demo city then only has to learn the outlines.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.pretraining.recipe import fast_precision
from instsynth_dagster.segmenters.contract import FitResult, Progress, SegmentationDataset, get_segmenter
from instsynth_dagster.settings import SegmenterSettings

MASK2FORMER: dict[str, Any] = {
    "feature_size": 64,
    "mask_feature_size": 64,
    "hidden_dim": 64,
    "encoder_layers": 1,
    "decoder_layers": 4,
    "num_attention_heads": 4,
    "encoder_feedforward_dim": 128,
    "dim_feedforward": 256,
    "num_queries": 30,
    "train_num_points": 1024,
}
FASTINST: dict[str, Any] = {
    "hidden_dim": 64,
    "pyramid_dim": 16,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "feedforward_dim": 128,
    "num_queries": 40,
    "num_auxiliary_queries": 4,
    "train_num_points": 1024,
}
ONEFORMER: dict[str, Any] = {
    "conv_dim": 64,
    "mask_dim": 64,
    "hidden_dim": 64,
    "encoder_layers": 1,
    "decoder_layers": 4,
    "query_dec_layers": 1,
    "num_attention_heads": 4,
    "encoder_feedforward_dim": 128,
    "dim_feedforward": 128,
    "num_queries": 40,
    "train_num_points": 1024,
    "dropout": 0.0,
    "text_encoder_width": 64,
    "text_encoder_num_layers": 2,
    "text_encoder_n_ctx": 4,
    "text_encoder_context_length": 16,
    "task_seq_len": 16,
}
_RECIPE: dict[str, Any] = {
    "batch_size": 4,
    "learning_rate": 1e-3,
    "backbone_lr_factor": 1.0,
    "grad_clip": 1.0,
    "crop": (128, 256),
    "scale_range": (0.5, 1.5),
    "checkpoint_every": 500,
}
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


def mask2former_recipe(backbone: Path, steps: int = 9000) -> SegmenterSettings:
    """How mini-mask2former is trained on a backbone folder."""
    return SegmenterSettings.model_validate(
        dict(
            kind="mask2former",
            backbone=str(backbone),
            architecture=MASK2FORMER,
            steps=steps,
            mixed_precision=fast_precision(),
            **_RECIPE,
        )
    )


def fastinst_recipe(backbone: Path, steps: int = 3500) -> SegmenterSettings:
    """How mini-fastinst is trained on a backbone folder, or on the backbone of a segmenter's folder."""
    return SegmenterSettings.model_validate(
        dict(kind="fastinst", backbone=str(backbone), architecture=FASTINST, steps=steps, **_RECIPE)
    )


def oneformer_recipe(start: Path, tokenizer: Path, steps: int = 5000) -> SegmenterSettings:
    """How mini-oneformer is trained from the backbone and pixel decoder of a Mask2Former's folder."""
    return SegmenterSettings.model_validate(
        dict(
            kind="oneformer",
            model=str(start),
            tokenizer=str(tokenizer),
            architecture=ONEFORMER,
            steps=steps,
            **_RECIPE,
        )
    )


def train_detector(
    scenes: SegmentationDataset,
    recipe: SegmenterSettings,
    *,
    classes: Sequence[str] = CITYSCAPES.classes,
    out: Path,
    scratch: Path,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train on box "masks" and write the segmenter's checkpoint folder with fp16 weights.

    Args:
        scenes: `scenes.BoxScenes`.
        out: the checkpoint folder to fill.
        scratch: state of an unfinished training; the same call goes on from there.
    """
    full = scratch / "float32"
    result = get_segmenter(recipe.kind).fit(
        scenes, recipe, classes=classes, seed=seed, out=full, scratch=scratch, device=device, progress=progress
    )
    _copy_halved(full, out)
    return FitResult(out, result.curve, result.seconds, result.peak_memory)


def _copy_halved(full: Path, out: Path) -> None:
    """A checkpoint folder with its floating-point weights in half precision."""
    shutil.copytree(full, out, dirs_exist_ok=True)
    weights = load_file(full / _WEIGHTS)
    halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halved, out / _WEIGHTS, metadata={"format": "pt"})
    config = json.loads((full / _CONFIG).read_text())
    if "dtype" in config:
        (out / _CONFIG).write_text(json.dumps(config | {"dtype": "float16"}, indent=2) + "\n")
