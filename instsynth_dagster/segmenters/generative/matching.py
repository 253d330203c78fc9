"""Matching of proposals and instances: SimOTA's dynamic k (section 3.3 of DiffusionDet)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou, generalized_box_iou

from instsynth_dagster.segmenters.generative.config import GenerativeConfig

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0
CENTER_RADIUS = 2.5
"""Distance between the centres of proposal and instance without a penalty, in box sizes."""
OFF_CENTER, OUTSIDE = 100.0, 10_000.0


def class_costs(logits: Tensor, classes: Tensor) -> Tensor:
    """(Q, G) focal cost of assigning an instance's class to a proposal."""
    probability = logits.sigmoid()
    wanted = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -(probability + 1e-8).log()
    unwanted = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -(1 - probability + 1e-8).log()
    return (wanted - unwanted)[:, classes]


def costs(
    logits: Tensor, boxes: Tensor, classes: Tensor, truth: Tensor, size: tuple[int, int], config: GenerativeConfig
) -> Tensor:
    """(Q, G) cost of each pair.

    Args:
        logits: (Q, C). boxes: xyxy (Q, 4) pixels. classes: (G,). truth: xyxy (G, 4) pixels. size: height, width.
    """
    scale = boxes.new_tensor([size[1], size[0], size[1], size[0]])
    total = config.l1_weight * torch.cdist(boxes / scale, truth / scale, p=1)
    total += config.class_weight * class_costs(logits, classes)
    total -= config.giou_weight * generalized_box_iou(boxes, truth)
    in_box, in_region = _where_centers_lie(boxes, truth)
    total += OFF_CENTER * ~(in_box & in_region)
    return total + OUTSIDE * ~(in_box | in_region).any(dim=1, keepdim=True)


def _where_centers_lie(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a proposal's centre lies in the instance's box, and in the region around its centre: each bool (Q, G)."""
    centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    in_box = ((centers > truth[None, :, :2]) & (centers < truth[None, :, 2:])).all(-1)
    middle, reach = (truth[:, :2] + truth[:, 2:]) / 2, CENTER_RADIUS * (truth[:, 2:] - truth[:, :2])
    return in_box, ((centers - middle).abs() < reach).all(-1)


@torch.no_grad()
def match(cost: Tensor, iou: Tensor, candidates: int) -> tuple[Tensor, Tensor]:
    """Matched proposals and instances: every instance gets at least one proposal, no proposal more than one instance.

    Instance j gets its k_j cheapest proposals, k_j being the rounded-down sum of its `candidates` best IoUs; a proposal
    matched twice goes to the instance with the lower cost; instances left without one then get free ones, cheapest pair
    first. With more instances than proposals some get none.

    Args:
        cost: (Q, G).
        iou: (Q, G).

    Returns:
        Indices of proposals and of instances, int64, of equal length, ordered by proposal.
    """
    proposals, instances = cost.shape
    if not instances:
        nothing = cost.new_zeros(0, dtype=torch.int64)
        return nothing, nothing
    wanted = iou.topk(min(candidates, proposals), dim=0).values.sum(0).int().clamp(min=1)
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0, stable=True)
    matched = rank < wanted
    twice = matched.sum(1) > 1
    best = cost[twice].argmin(1)
    matched[twice] = False
    matched[twice.nonzero()[:, 0], best] = True
    while not matched.any(0).all():
        free = ~matched.any(1)
        if not free.any():  # otherwise one of an instance that has several
            free = (matched & (matched.sum(0) > 1)).any(1)
        if not free.any():
            break
        open_pairs = cost.masked_fill(~free[:, None] | matched.any(0), torch.inf)
        query, instance = divmod(int(open_pairs.argmin()), instances)
        matched[query] = False
        matched[query, instance] = True
    queries, chosen = matched.nonzero(as_tuple=True)
    return queries, chosen


def ious(boxes: Tensor, truth: Tensor) -> Tensor:
    """IoU (Q, G) of xyxy boxes; a box with inverted corners overlaps nothing."""
    return box_iou(boxes, truth).nan_to_num(0.0).clamp(0, 1)
