"""EoMT (Kerssies et al., 2025) from transformers: a plain vision transformer with square input of a fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers
from torch import Tensor, nn

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.segmenters.shared import transformers_models
from instsynth_dagster.segmenters.shared.queries import QuerySegmenter
from instsynth_dagster.segmenters.shared.scoring import class_probabilities
from instsynth_dagster.settings import SegmenterSettings


class EomtSegmenter(QuerySegmenter):
    """`Segmenter` of kind `eomt`. `settings.architecture` holds values of `EomtConfig`; `settings.crop` is the model's
    square input size: crops in training, whole images resized to it at inference.
    """

    def build(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> nn.Module:
        named = transformers_models.class_labels(classes)
        height, width = settings.crop
        if height != width:
            raise SettingsError(f"segmenters.crop: eomt reads squares, not {height}x{width}")
        if not settings.model:
            return transformers_models.new_model(
                transformers.EomtForUniversalSegmentation, settings, image_size=height, **named
            )
        model = transformers_models.load_pretrained(
            transformers.EomtForUniversalSegmentation, settings.model, ignore_mismatched_sizes=True, **named
        )
        if model.config.image_size != height:
            size = model.config.image_size
            raise SettingsError(f"segmenters.crop: {settings.model} reads {size}x{size}; set crop to that")
        return model

    def backbone(self, model: Any) -> nn.Module:
        return model.layers

    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        transformers_models.save(model, out)

    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        model = transformers_models.load_pretrained(transformers.EomtForUniversalSegmentation, str(folder))
        return model, transformers_models.classes_of(model)

    def infer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = model(pixel_values=pixels)
        return class_probabilities(output.class_queries_logits[0]), output.masks_queries_logits[0]

    def stride(self, model: Any) -> int:
        return 1

    def test_size(self, model: Any, settings: SegmenterSettings) -> tuple[int, int]:
        return (model.config.image_size,) * 2
