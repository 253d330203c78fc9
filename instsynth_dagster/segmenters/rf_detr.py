"""RF-DETR-Seg from transformers: a windowed DINOv2, deformable queries with boxes, and masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torchvision.ops import box_convert, masks_to_boxes

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.segmenters.shared import transformers_models
from instsynth_dagster.segmenters.shared.normaliser import share_of_batch
from instsynth_dagster.segmenters.shared.queries import QuerySegmenter
from instsynth_dagster.settings import SegmenterSettings


class RfDetrSegmenter(QuerySegmenter):
    """`Segmenter` of kind `rf_detr`. `settings.architecture` holds values of `RfDetrConfig`."""

    def build(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> nn.Module:
        named = transformers_models.class_labels(classes)
        model = (
            transformers_models.load_pretrained(
                transformers.RfDetrForInstanceSegmentation, settings.model, ignore_mismatched_sizes=True, **named
            )
            if settings.model
            else transformers_models.new_model(transformers.RfDetrForInstanceSegmentation, settings, **named)
        )
        model.loss_function = _divided_by_batch_boxes(model.loss_function, model.config.group_detr)
        stride = self.stride(model)
        if any(side % stride for side in settings.crop):
            raise SettingsError(f"segmenters.crop: rf_detr needs multiples of {stride} (patch size x windows)")
        return model

    def backbone(self, model: Any) -> nn.Module:
        return model.model.model.backbone

    def batches(
        self, settings: SegmenterSettings, classes: Sequence[str], model: Any
    ) -> Callable[[list[Any]], dict[str, Any]]:
        return with_boxes

    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        transformers_models.save(model, out)

    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        model = transformers_models.load_pretrained(transformers.RfDetrForInstanceSegmentation, str(folder))
        return model, transformers_models.classes_of(model)

    def infer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        output = model(pixel_values=pixels)
        return output.logits[0].float().sigmoid(), output.pred_masks[0]

    def stride(self, model: Any) -> int:
        backbone = model.config.backbone_config
        patch = backbone.patch_size
        return (patch if isinstance(patch, int) else max(patch)) * getattr(backbone, "num_windows", 1)


def _divided_by_batch_boxes(loss_function: Callable[..., Any], groups: int) -> Callable[..., Any]:
    """A loss of the library, which divides by the boxes of the given images, divided by the boxes of the whole batch
    instead.
    """

    def loss(logits: Tensor, labels: list[dict[str, Tensor]], *rest: Any, **options: Any) -> Any:
        total, terms, auxiliary = loss_function(logits, labels, *rest, **options)
        share = share_of_batch(groups * sum(len(label["class_labels"]) for label in labels), logits.device)
        return total * share, terms, auxiliary

    return loss


def with_boxes(items: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of items of `TrainingDraws` in the form of DETR models: boxes (N, 4) are centre and size, 0..1."""
    labels = []
    for item in items:
        masks = item["mask_labels"]
        height, width = masks.shape[1:]
        edges = masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0]) if len(masks) else torch.zeros(0, 4)
        boxes = box_convert(edges, "xyxy", "cxcywh") / torch.tensor([width, height, width, height])
        labels.append({"class_labels": item["class_labels"], "boxes": boxes, "masks": masks})
    return {"pixel_values": torch.stack([item["pixel_values"] for item in items]), "labels": labels}
