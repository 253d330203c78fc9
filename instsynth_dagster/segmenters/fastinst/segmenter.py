"""FastInst behind the segmenter interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.sources import trained_folder
from instsynth_dagster.segmenters.fastinst.config import FastInstConfig
from instsynth_dagster.segmenters.fastinst.model import FastInst
from instsynth_dagster.segmenters.kinds import WithBackbone
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE, backbone_description, load_backbone
from instsynth_dagster.segmenters.shared.checkpoints import (
    CONFIG,
    WEIGHTS,
    architecture,
    save_checkpoint,
    transferred_weights,
)
from instsynth_dagster.segmenters.shared.queries import QuerySegmenter
from instsynth_dagster.segmenters.shared.scoring import class_probabilities
from instsynth_dagster.settings import SegmenterSettings

PER_CLASS = ("proposal.head.2.weight", "proposal.head.2.bias", "classes.4.weight", "classes.4.bias")
"""Suffixes of the names of parameters with a row for each class, and one for "no object"."""


class FastInstSegmenter(QuerySegmenter):
    """`Segmenter` of kind `fastinst`. `settings.architecture` holds values of `FastInstConfig`."""

    def build(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> nn.Module:
        assert isinstance(settings, WithBackbone)
        values = dict(settings.architecture)
        if settings.model:
            return _with_new_classes(self.restore(trained_folder(settings.model))[0], values, classes)
        backbone = load_backbone(settings.backbone) if settings.backbone else None
        if backbone is not None:
            values["backbone_config"] = backbone_description(backbone)
        model = _new_model(values | {"classes": tuple(classes)})
        if backbone is not None:
            model.backbone.load_state_dict(backbone.state_dict())
        return model

    def backbone(self, model: Any) -> nn.Module:
        return model.backbone

    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        save_checkpoint(model, model.sizes.model_dump_json(indent=2), out)

    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        try:
            config = FastInstConfig.model_validate_json((folder / CONFIG).read_text())
            model = FastInst(config)
            model.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
        except UNLOADABLE as error:
            raise CheckpointError(f"{folder}: cannot be loaded as FastInst: {reason(error)}") from None
        return model, config.classes

    def infer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = model(pixels)
        return class_probabilities(output["class_logits"][0]), output["mask_logits"][0]


def _new_model(values: dict[str, Any]) -> FastInst:
    """A model with new weights.

    Raises:
        SettingsError: a value of the architecture is unknown or impossible.
    """
    config = architecture(FastInstConfig, values)
    try:
        return FastInst(config)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise SettingsError(f"segmenters.architecture: {' '.join(str(error).split())}") from None


def _with_new_classes(trained: Any, values: dict[str, Any], classes: Sequence[str]) -> FastInst:
    """A model for other classes with the weights of a trained one; class layers keep the rows of classes that
    it knew.
    """
    model = _new_model(trained.sizes.model_dump() | values | {"classes": tuple(classes)})
    model.load_state_dict(transferred_weights(trained, model, trained.sizes.classes, classes, PER_CLASS))
    return model
