"""Mask2Former (Cheng et al., 2022) from transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, Mask2FormerConfig, Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessor

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters.augmentation import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.backbones import UNLOADABLE, first_line, load_backbone
from instsynth_dagster.segmenters.queries import STRIDE, QuerySegmenter
from instsynth_dagster.settings import SegmenterSettings
from instsynth_dagster.sources import pretrained


class Mask2FormerSegmenter(QuerySegmenter):
    """`Segmenter` of kind `mask2former`."""

    def build(self, settings: SegmenterSettings, classes: Sequence[str]) -> nn.Module:
        return build_model(settings, classes)

    def backbone(self, model: Any) -> nn.Module:
        return model.model.pixel_level_module.encoder

    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        configs: list[Any] = [model.config, model.config.backbone_config]
        for config in configs:
            config.name_or_path = ""  # a checkpoint does not tell where on this machine it came from
        model.save_pretrained(out)
        _image_processor(len(classes)).save_pretrained(out)

    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        model = _pretrained(str(folder))
        return model, tuple(name for _, name in sorted(dict(model.config.id2label or {}).items()))

    def answer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = model(pixel_values=pixels)
        return output.class_queries_logits[0], output.masks_queries_logits[0]


def build_model(settings: SegmenterSettings, classes: Sequence[str]) -> Mask2FormerForUniversalSegmentation:
    """A model to train: pretrained with a new class head, or new on a (pretrained) backbone.

    `settings.architecture` holds values of `Mask2FormerConfig`; `backbone_config` there describes a backbone from
    scratch where `settings.backbone` names none.

    Raises:
        CheckpointError: `settings.model` or `settings.backbone` cannot be loaded.
        SettingsError: `settings.architecture` names an unknown value or an impossible one.
    """
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(classes)),
        "label2id": {name: index for index, name in enumerate(classes)},
    }
    if settings.model:
        return _pretrained(settings.model, ignore_mismatched_sizes=True, **labels)
    values = dict(settings.architecture)
    unknown = sorted(set(values) - {field.name for field in fields(Mask2FormerConfig)})
    if unknown:
        raise SettingsError(f"segmenters.architecture: unknown key {unknown[0]!r} of Mask2FormerConfig")
    backbone = load_backbone(settings.backbone) if settings.backbone else None
    if backbone is not None:
        values["backbone_config"] = backbone.config
    try:
        model = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(**values, **labels))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise SettingsError(f"segmenters.architecture: {' '.join(str(error).split())}") from None
    if backbone is not None:
        model.model.pixel_level_module.encoder.load_state_dict(backbone.state_dict())
    return model


def _pretrained(source: str, **options: Any) -> Mask2FormerForUniversalSegmentation:
    name, where = pretrained(source)
    try:
        kind = AutoConfig.from_pretrained(name, **where).model_type
        if kind != "mask2former":
            raise CheckpointError(f"{name}: is a {kind} model, expected mask2former")
        return Mask2FormerForUniversalSegmentation.from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, **where, **options
        )
    except UNLOADABLE as error:
        raise CheckpointError(f"{name}: cannot be loaded as Mask2Former: {first_line(error)}") from None


def _image_processor(num_labels: int) -> Mask2FormerImageProcessor:
    """What other tools need to know to feed the checkpoint."""
    return Mask2FormerImageProcessor(
        do_resize=False, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD, size_divisor=STRIDE, num_labels=num_labels
    )
