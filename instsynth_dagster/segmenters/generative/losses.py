"""Losses of the denoising decoder, at every stage; objects without annotation are no negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, generalized_box_iou_loss, masks_to_boxes, sigmoid_focal_loss

from instsynth_dagster.segmenters.generative.config import GenerativeConfig
from instsynth_dagster.segmenters.generative.decoder import Prediction
from instsynth_dagster.segmenters.generative.dynamic_masks import dynamic_masks
from instsynth_dagster.segmenters.generative.matching import FOCAL_ALPHA, FOCAL_GAMMA, costs, ious, match
from instsynth_dagster.segmenters.shared.normaliser import masks_per_process

IGNORED_SHARE = 0.5
"""Share of an unmatched proposal on ignored objects from which it is left out of the classification."""


@dataclass(frozen=True)
class Truth:
    """Instances of one image: boxes xyxy (N, 4) in pixels, classes (N,), masks (N, h, w) in 0..1 at the mask stride;
    boxes of ignored objects (M, 4).
    """

    boxes: Tensor
    classes: Tensor
    masks: Tensor
    ignored: Tensor


def truth_of(masks: Tensor, classes: Tensor, ignored: Tensor, size: tuple[int, int]) -> Truth:
    """The `Truth` of full-size masks float (N, H, W); `ignored` (M, H, W); `size`: height and width at the mask
    stride.
    """
    small = F.interpolate(masks[None], size, mode="area")[0] if len(masks) else masks.new_zeros(0, *size)
    return Truth(boxes_of(masks), classes, small, boxes_of(ignored))


def boxes_of(masks: Tensor) -> Tensor:
    """Tight boxes xyxy, x2 and y2 exclusive, of non-empty masks (N, H, W)."""
    if not len(masks):
        return masks.new_zeros(0, 4)
    return masks_to_boxes(masks) + masks.new_tensor([0.0, 0.0, 1.0, 1.0])


def total_loss(
    stages: Sequence[Prediction],
    mask_features: Tensor,
    truths: Sequence[Truth],
    size: tuple[int, int],
    config: GenerativeConfig,
) -> Tensor:
    """Sum over stages of focal, L1, GIoU and dice losses, each divided by the number of matched proposals.

    Args:
        mask_features: (B, C, h, w); its stride follows from `size`, the images' height and width.
    """
    total = mask_features.sum() * 0
    for prediction in stages:
        total = total + _stage_loss(prediction, mask_features, truths, size, config)
    return total


def _stage_loss(
    prediction: Prediction,
    mask_features: Tensor,
    truths: Sequence[Truth],
    size: tuple[int, int],
    config: GenerativeConfig,
) -> Tensor:
    stride = size[1] // mask_features.shape[-1]
    scale = prediction.boxes.new_tensor([size[1], size[0], size[1], size[0]])
    wanted = torch.zeros_like(prediction.logits)
    counted = torch.ones_like(prediction.logits[..., :1])
    matched, box_loss, mask_loss = [], prediction.boxes.sum() * 0, prediction.kernels.sum() * 0
    for image, truth in enumerate(truths):
        one = prediction.of(image)
        cost = costs(one.logits, one.boxes, truth.classes, truth.boxes, size, config)
        queries, instances = match(cost.detach(), ious(one.boxes.detach(), truth.boxes), config.ota_candidates)
        wanted[image, queries, truth.classes[instances]] = 1.0
        counted[image, _on_ignored_objects(one.boxes.detach(), truth.ignored, queries), 0] = 0.0
        matched.append(queries)
        if not len(queries):
            continue
        ours, theirs = one.boxes[queries], truth.boxes[instances]
        box_loss = box_loss + config.l1_weight * F.l1_loss(ours / scale, theirs / scale, reduction="sum")
        box_loss = box_loss + config.giou_weight * generalized_box_iou_loss(ours, theirs, reduction="sum")
        kernels = one.kernels[queries]
        logits = dynamic_masks(mask_features[image], kernels, ours.detach(), stride, config.rel_coords)
        mask_loss = mask_loss + config.dice_weight * _dice(logits.sigmoid(), truth.masks[instances]).sum()
    focal = sigmoid_focal_loss(prediction.logits, wanted, FOCAL_ALPHA, FOCAL_GAMMA)
    positives = masks_per_process(matched, prediction.logits.device)
    return (config.class_weight * (focal * counted).sum() + box_loss + mask_loss) / positives


def _on_ignored_objects(boxes: Tensor, ignored: Tensor, queries: Tensor) -> Tensor:
    """bool (Q,): unmatched boxes that lie mostly on ignored objects, or closely around one."""
    if not len(ignored):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    low = torch.maximum(boxes[:, None, :2], ignored[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], ignored[None, :, 2:])
    inside = (high - low).clamp(min=0).prod(-1) / (boxes[:, 2:] - boxes[:, :2]).prod(-1).clamp(min=1)[:, None]
    unsure = ((inside > IGNORED_SHARE) | (box_iou(boxes, ignored) > IGNORED_SHARE)).any(1)
    unsure[queries] = False
    return unsure


def _dice(ours: Tensor, theirs: Tensor) -> Tensor:
    """(N,) of masks (N, h, w) in 0..1."""
    overlap = 2 * (ours * theirs).sum((1, 2))
    return 1 - overlap / ((ours**2).sum((1, 2)) + (theirs**2).sum((1, 2)) + 1e-5)
