"""Models of transformers: built from settings, loaded and saved, with errors of one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.sources import load_complete_model, pretrained
from instsynth_dagster.segmenters.shared.backbones import TRAINING_ONLY, UNLOADABLE, load_backbone
from instsynth_dagster.segmenters.shared.normaliser import batch_cross_entropy, masks_per_process
from instsynth_dagster.settings import SegmenterSettings


def class_labels(classes: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments of a configuration that name the classes."""
    return {
        "id2label": dict(enumerate(classes)),
        "label2id": {name: index for index, name in enumerate(classes)},
    }


def classes_of(model: Any) -> tuple[str, ...]:
    """The classes of a model; inverse of `class_labels`."""
    return tuple(name for _, name in sorted(dict(model.config.id2label or {}).items()))


def model_type(source: str) -> str:
    """The `model_type` of a folder or hub id.

    Raises:
        CheckpointError: it has no configuration that can be loaded.
    """
    name, where = pretrained(source, with_weights=False)
    try:
        return str(transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **where).model_type)
    except UNLOADABLE as error:
        raise CheckpointError(f"{name}: cannot be loaded: {reason(error)}") from None


def load_pretrained(model_class: Any, source: str, **options: Any) -> Any:
    """A model in float32 from safetensors.

    Raises:
        CheckpointError: it cannot be loaded, or is of another type.
    """
    name, where = pretrained(source)
    expected = model_class.config_class.model_type
    found = model_type(source)
    if found != expected:
        raise CheckpointError(f"{name}: is a {found} model, expected {expected}")
    try:
        model = load_complete_model(model_class, name, may_miss=TRAINING_ONLY, dtype=torch.float32, **where, **options)
    except UNLOADABLE as error:
        raise CheckpointError(f"{name}: cannot be loaded as {model_class.__name__}: {reason(error)}") from None
    return _counting_masks(model)


def new_model(
    model_class: Any,
    settings: SegmenterSettings,
    *,
    encoder: Callable[[Any], Any] | None = None,
    backbone: str | None = None,
    **values: Any,
) -> Any:
    """A model with new weights from `values` and `settings.architecture`; the latter takes precedence.

    Args:
        encoder: returns the backbone of the model; None for a model without a separate backbone.
        backbone: folder or id whose weights the backbone gets.

    Raises:
        CheckpointError: the backbone cannot be loaded.
        SettingsError: `settings.architecture` names an unknown value or an impossible one.
    """
    config_class = model_class.config_class
    values |= settings.architecture
    unknown = sorted(set(settings.architecture) - {field.name for field in fields(config_class)})
    if unknown:
        raise SettingsError(f"segmenters.architecture: unknown key {unknown[0]!r} of {config_class.__name__}")
    trained = load_backbone(backbone) if backbone else None
    if trained is not None:
        values["backbone_config"] = trained.config
    try:
        model = model_class(config_class(**values))
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise SettingsError(f"segmenters.architecture: {' '.join(str(error).split())}") from None
    if trained is not None and encoder is not None:
        encoder(model).load_state_dict(trained.state_dict())
    return _counting_masks(model)


def _counting_masks(model: Any) -> Any:
    """The model with its losses divided by totals of the whole batch (`shared.normaliser`)."""
    criterion: Any = getattr(model, "criterion", None)
    if hasattr(criterion, "get_num_masks"):
        criterion.get_num_masks = masks_per_process
        criterion.loss_labels = partial(_loss_labels, criterion)
    return model


def _loss_labels(
    criterion: Any, logits: Tensor, class_labels: Sequence[Tensor], indices: Sequence[tuple[Tensor, Tensor]]
) -> dict[str, Tensor]:
    """Cross-entropy of the classes, "no object" last and with the criterion's weight.

    Args:
        logits: (B, Q, C + 1).
        class_labels: int64 (N_i,) of each image.
        indices: matched queries and instances.
    """
    wanted = torch.full(logits.shape[:2], logits.shape[2] - 1, device=logits.device)
    for image, (queries, instances) in enumerate(indices):
        wanted[image, queries] = class_labels[image][instances]
    return {"loss_cross_entropy": batch_cross_entropy(logits.transpose(1, 2), wanted, criterion.empty_weight)}


def save(model: Any, out: Path) -> None:
    """Write a `from_pretrained` folder without the path from which the weights were loaded."""
    configs: list[Any] = [model.config, getattr(model.config, "backbone_config", None)]
    for config in filter(None, configs):
        config.name_or_path = ""
    model.save_pretrained(out)
