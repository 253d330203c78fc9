"""Mask2Former (Cheng et al., 2022) from transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.segmenters.kinds import WithBackbone
from instsynth_dagster.segmenters.shared import transformers_models
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.shared.queries import STRIDE, QuerySegmenter
from instsynth_dagster.segmenters.shared.scoring import class_probabilities
from instsynth_dagster.settings import SegmenterSettings


class Mask2FormerSegmenter(QuerySegmenter):
    """`Segmenter` of kind `mask2former`."""

    def build(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> nn.Module:
        return build_model(settings, classes)

    def backbone(self, model: Any) -> nn.Module:
        return model.model.pixel_level_module.encoder

    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        transformers_models.save(model, out)
        _image_processor(len(classes)).save_pretrained(out)

    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        model = transformers_models.load_pretrained(transformers.Mask2FormerForUniversalSegmentation, str(folder))
        return model, transformers_models.classes_of(model)

    def infer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = model(pixel_values=pixels)
        return class_probabilities(output.class_queries_logits[0]), output.masks_queries_logits[0]


def build_model(
    settings: SegmenterSettings, classes: Sequence[str]
) -> transformers.Mask2FormerForUniversalSegmentation:
    """A model to train: pretrained with a new class head, or new on a (pretrained) backbone.

    `settings.architecture` holds values of `Mask2FormerConfig`; its `backbone_config` describes a backbone with random
    weights where `settings.backbone` names none.

    Raises:
        CheckpointError: `settings.model` or `settings.backbone` cannot be loaded.
        SettingsError: `settings.architecture` names an unknown value or an impossible one.
    """
    assert isinstance(settings, WithBackbone)
    labels = transformers_models.class_labels(classes)
    if settings.model:
        return transformers_models.load_pretrained(
            transformers.Mask2FormerForUniversalSegmentation, settings.model, ignore_mismatched_sizes=True, **labels
        )
    return transformers_models.new_model(
        transformers.Mask2FormerForUniversalSegmentation,
        settings,
        encoder=lambda model: model.model.pixel_level_module.encoder,
        backbone=settings.backbone,
        **labels,
    )


def _image_processor(num_labels: int) -> transformers.Mask2FormerImageProcessor:
    """The image processor of the checkpoint, for other tools."""
    return transformers.Mask2FormerImageProcessor(
        do_resize=False, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD, size_divisor=STRIDE, num_labels=num_labels
    )
