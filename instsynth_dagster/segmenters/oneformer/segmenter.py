"""OneFormer behind the segmenter interface: one training for three tasks, each selected by its own token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.sources import load_complete_tokenizer, pretrained
from instsynth_dagster.segmenters.contract import Maps
from instsynth_dagster.segmenters.kinds import OneFormerSettings
from instsynth_dagster.segmenters.oneformer.from_mask2former import mask2former_weights
from instsynth_dagster.segmenters.oneformer.tasks import (
    INSTANCE,
    PANOPTIC,
    SEMANTIC,
    TASKS,
    TaskBatches,
    all_classes,
    task_targets,
)
from instsynth_dagster.segmenters.shared import transformers_models
from instsynth_dagster.segmenters.shared.augmentation import Targets
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE
from instsynth_dagster.segmenters.shared.maps import panoptic_map, semantic_map
from instsynth_dagster.segmenters.shared.queries import QueryPredictor, QuerySegmenter, prepare
from instsynth_dagster.segmenters.shared.scoring import class_probabilities
from instsynth_dagster.settings import SegmenterSettings


class OneFormerSegmenter(QuerySegmenter):
    """`Segmenter` of kind `oneformer`. `settings.architecture` holds values of `OneFormerConfig`.

    `settings.model` may be a OneFormer, or a Mask2Former whose backbone, pixel decoder and decoder layers are reused.
    """

    def build(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> nn.Module:
        assert isinstance(settings, OneFormerSettings)
        if settings.text_branch and settings.batch_size // settings.processes < 2:
            raise SettingsError(
                "segmenters.batch_size: the contrastive loss of one image is always 0; "
                "use at least 2 images a process, or text_branch: false"
            )
        return build_model(settings, classes, labels)

    def backbone(self, model: Any) -> nn.Module:
        return _encoder(model)

    def is_divisible(self, settings: SegmenterSettings) -> bool:
        """Whether a batch may be split: not with the contrastive loss, which compares the images of a batch with one
        another.
        """
        assert isinstance(settings, OneFormerSettings)
        return not settings.text_branch

    def targets(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> Targets:
        return task_targets(classes, labels)

    def batches(
        self, settings: SegmenterSettings, classes: Sequence[str], model: Any
    ) -> Callable[[list[Any]], dict[str, Any]]:
        return _batches(model, transformers_models.classes_of(model))

    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        """Write a checkpoint folder without the text branch, which only training needs."""
        model.config.is_training = model.model.is_training = False
        model.model.text_mapper = None
        transformers_models.save(model, out)
        model.tokenizer.save_pretrained(out)

    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        model = transformers_models.load_pretrained(transformers.OneFormerForUniversalSegmentation, str(folder))
        model.tokenizer = _tokenizer(str(folder))
        return model, transformers_models.classes_of(model)

    def infer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        classes, masks = task_outputs(model, pixels, _batches(model, ()).task(INSTANCE))
        return class_probabilities(classes), masks

    def predictor(
        self, model: Any, classes: Sequence[str], settings: SegmenterSettings, labels: LabelTable, device: str
    ) -> QueryPredictor:
        return OneFormerPredictor(model, classes, labels, settings.test_size, settings.max_detections, device)


class OneFormerPredictor(QueryPredictor):
    """Instances, panoptic and semantic maps, each computed with the token of its task."""

    def __init__(
        self,
        model: Any,
        classes: Sequence[str],
        labels: LabelTable,
        test_size: tuple[int, int] | None,
        max_detections: int,
        device: str,
    ) -> None:
        batches = _batches(model, classes)
        self._tokens = {task: batches.task(task).to(device) for task in TASKS}
        self._device = device

        def infer(pixels: Tensor) -> tuple[Tensor, Tensor]:
            found, masks = self.task_outputs(pixels, INSTANCE)
            return class_probabilities(found), masks

        super().__init__(model, infer, classes, labels, max_detections, test_size)

    def task_outputs(self, pixels: Tensor, task: str) -> tuple[Tensor, Tensor]:
        """Class logits (Q, C + 1) and mask logits (Q, h, w) of pixels (1, 3, H, W) for a task."""
        return task_outputs(self.model, pixels.to(self._device), self._tokens[task])

    @torch.inference_mode()
    def maps(self, image: np.ndarray) -> Maps:
        """See `Predictor.maps`."""
        pixels, geometry = prepare(image, self._test_size)
        panoptic = panoptic_map(*self.task_outputs(pixels[None], PANOPTIC), self.classes, geometry, self.labels)
        semantic = semantic_map(*self.task_outputs(pixels[None], SEMANTIC), self.classes, geometry, self.labels)
        return Maps(panoptic, semantic)


def task_outputs(model: Any, pixels: Tensor, task: Tensor) -> tuple[Tensor, Tensor]:
    """Class logits (Q, C + 1) and mask logits (Q, h, w) of pixels (1, 3, H, W) for the tokens of a task."""
    output = model(pixel_values=pixels, task_inputs=task[None])
    return output.class_queries_logits[0], output.masks_queries_logits[0]


def build_model(settings: OneFormerSettings, classes: Sequence[str], labels: LabelTable) -> Any:
    """A model to train, with its tokenizer as `.tokenizer`.

    Raises:
        CheckpointError: `settings.model`, `settings.backbone` or `settings.tokenizer` cannot be loaded.
        SettingsError: `settings.architecture` names an unknown value or an impossible one, or no tokenizer is named.
    """
    named = transformers_models.class_labels(all_classes(classes, labels)) | {"is_training": settings.text_branch}
    where = settings.tokenizer or settings.model
    if where is None:
        raise SettingsError("segmenters.tokenizer: oneformer needs one; give a folder or id with a CLIP tokenizer")
    tokenizer = _tokenizer(where)
    if settings.model and transformers_models.model_type(settings.model) == "oneformer":
        model = transformers_models.load_pretrained(
            transformers.OneFormerForUniversalSegmentation, settings.model, ignore_mismatched_sizes=True, **named
        )
    else:
        model = _new_model(settings, named | {"text_encoder_vocab_size": len(tokenizer)})
    model.tokenizer = tokenizer
    return model


def _new_model(settings: OneFormerSettings, labels: dict[str, Any]) -> Any:
    sizes = {
        name: settings.architecture.get(name, getattr(transformers.OneFormerConfig, name))
        for name in ("hidden_dim", "conv_dim", "mask_dim", "text_encoder_width")
    }
    if len(set(sizes.values())) > 1:
        # the library neither trains nor saves the projections between different widths
        widths = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise SettingsError(f"segmenters.architecture: {widths} must be equal for oneformer")
    model = transformers_models.new_model(
        transformers.OneFormerForUniversalSegmentation,
        settings,
        encoder=_encoder,
        backbone=settings.model or settings.backbone,
        **labels,
    )
    if settings.model:
        own = model.state_dict()
        taken = mask2former_weights(settings.model)
        model.load_state_dict({k: v for k, v in taken.items() if k in own and v.shape == own[k].shape}, strict=False)
    return model


def _encoder(model: Any) -> nn.Module:
    return model.model.pixel_level_module.encoder


def _batches(model: Any, classes: Sequence[str]) -> TaskBatches:
    config = model.config
    texts = config.num_queries - config.text_encoder_n_ctx if model.model.is_training else 0
    return TaskBatches(
        model.tokenizer, classes, config.task_seq_len, config.text_encoder_context_length, num_texts=texts
    )


def _tokenizer(source: str) -> Any:
    name, where = pretrained(source, with_weights=False)
    try:
        return load_complete_tokenizer(transformers.AutoTokenizer, name, trust_remote_code=False, **where)
    except UNLOADABLE as error:
        raise CheckpointError(f"{name}: has no tokenizer that can be loaded: {reason(error)}") from None
