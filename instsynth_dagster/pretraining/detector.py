"""mini-mask2former: an "Objects365 in miniature" for the demo's Mask2Former.

On real streets nobody trains a segmenter from a bare backbone: it starts from weights that know what objects are and
where they end. Here a small Mask2Former on mini-resnet learns to find procedural instances from boxes alone (the box is
given as the mask). Training on a demo city then only has to learn the outlines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

from instsynth_dagster.cityscapes import CLASSES
from instsynth_dagster.quiet import quiet_transformers
from instsynth_dagster.segmenters.base import FitResult, Progress, SegmentationDataset, get_segmenter
from instsynth_dagster.settings import SegmenterSettings

ARCHITECTURE: dict[str, Any] = {
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


def detector_recipe(backbone: Path, steps: int = 9000) -> SegmenterSettings:
    """The pretraining recipe on a backbone folder."""
    return SegmenterSettings(
        kind="mask2former",
        backbone=str(backbone),
        architecture=ARCHITECTURE,
        steps=steps,
        batch_size=4,
        learning_rate=1e-3,
        backbone_lr_factor=1.0,
        grad_clip=1.0,
        crop=(128, 256),
        scale_range=(0.5, 1.5),
        mixed_precision="bf16",
        checkpoint_every=500,
    )


def train_detector(
    scenes: SegmentationDataset,
    recipe: SegmenterSettings,
    *,
    out: Path,
    scratch: Path,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FitResult:
    """Train on box "masks" and write a standard Mask2Former folder with fp16 weights.

    Args:
        scenes: `scenes.BoxScenes`.
        out: the `from_pretrained` folder to fill.
        scratch: state of an unfinished training; the same call goes on from there.
    """
    full = scratch / "float32"
    result = get_segmenter("mask2former").fit(
        scenes, recipe, classes=CLASSES, seed=seed, out=full, scratch=scratch, device=device, progress=progress
    )
    with quiet_transformers():
        model = Mask2FormerForUniversalSegmentation.from_pretrained(full, local_files_only=True, dtype=torch.float16)
        model.save_pretrained(out)
        Mask2FormerImageProcessor.from_pretrained(full, local_files_only=True).save_pretrained(out)
    return FitResult(out, result.curve, result.seconds, result.peak_memory)
