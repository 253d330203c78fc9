"""Matching and losses of FastInst, on sampled points as in PointRend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from instsynth_dagster.segmenters.fastinst.config import FastInstConfig
from instsynth_dagster.segmenters.shared.normaliser import batch_cross_entropy, masks_per_process

Match = tuple[Tensor, Tensor]
"""Indices of queries and of the instances matched to them, of equal length."""


@dataclass
class Targets:
    """Instances of a batch: masks float (N_i, H, W) of 0 and 1 and classes int64 (N_i,) of each image."""

    masks: Sequence[Tensor]
    classes: Sequence[Tensor]

    @cached_property
    def count(self) -> Tensor:
        """Divisor of the mask losses: see `masks_per_process`."""
        return masks_per_process(self.classes, self.classes[0].device)


class Criterion:
    """The terms of equation 4, summed over depths."""

    def __init__(self, config: FastInstConfig) -> None:
        self.config = config

    @torch.no_grad()
    def match(self, logits: Tensor, masks: Tensor, locations: Tensor, targets: Targets) -> list[Match]:
        """Hungarian matching by class, mask, dice, and whether the query lies in the instance."""
        config, matches = self.config, []
        for image, (truth, classes) in enumerate(zip(targets.masks, targets.classes, strict=True)):
            points = torch.rand(1, config.train_num_points, 2, device=masks.device)
            ours, theirs = _sample(masks[image], points), _sample(truth, points)
            probability = logits[image].float().softmax(-1)[:, classes]
            cost = config.mask_weight * _pairwise_cross_entropy(ours, theirs)
            cost += config.dice_weight * _pairwise_dice(ours, theirs)
            cost -= config.class_weight * probability
            cost -= config.location_weight * _sample(truth, locations[image][None], mode="nearest").T
            matches.append(_assign(cost))
        return matches

    def query_losses(self, logits: Tensor, masks: Tensor, matches: Sequence[Match], targets: Targets) -> Tensor:
        """Classification, mask and dice losses of one depth."""
        config, count = self.config, targets.count
        wanted = torch.full(logits.shape[:2], logits.shape[2] - 1, device=logits.device)
        for image, (queries, instances) in enumerate(matches):
            wanted[image, queries] = targets.classes[image][instances]
        weight = torch.ones(logits.shape[2], device=logits.device)
        weight[-1] = config.no_object_weight
        total = config.class_weight * batch_cross_entropy(logits.float().transpose(1, 2), wanted, weight)
        ours = torch.cat([masks[image][queries] for image, (queries, _) in enumerate(matches)]).float()
        truth = torch.cat([targets.masks[image][instances] for image, (_, instances) in enumerate(matches)])
        if not len(ours):
            return total + 0 * masks.sum()
        points = self._uncertain_points(ours.detach())
        ours, theirs = _sample_each(ours, points), _sample_each(truth, points)
        total += (
            config.mask_weight
            * F.binary_cross_entropy_with_logits(ours, theirs, reduction="none").mean(1).sum()
            / count
        )
        return total + config.dice_weight * _dice(ours.sigmoid(), theirs).sum() / count

    def proposal_loss(self, logits: Tensor, targets: Targets) -> Tensor:
        """Cross-entropy of the auxiliary classifier: one pixel of each instance has its class, all others "no
        object".
        """
        config = self.config
        wanted = torch.full((len(logits), logits[0, 0].numel()), logits.shape[1] - 1, device=logits.device)
        for image, (truth, classes) in enumerate(zip(targets.masks, targets.classes, strict=True)):
            inside = (
                (F.adaptive_avg_pool2d(truth[:, None], (logits.shape[-2], logits.shape[-1])) > 0).flatten(1).float()
            )
            probability = logits[image].detach().float().softmax(0).flatten(1)[classes]
            cost = -config.class_weight * probability - config.location_weight * inside
            pixels, instances = _assign(cost.T)
            wanted[image, pixels] = classes[instances]
        return config.proposal_weight * batch_cross_entropy(logits.float().flatten(2), wanted)

    def _uncertain_points(self, masks: Tensor) -> Tensor:
        """(M, P, 2) points: `importance_ratio` of them are the least certain of an oversampled draw, the rest are
        uniform.
        """
        config = self.config
        certain = int(config.importance_ratio * config.train_num_points)
        drawn = torch.rand(len(masks), int(config.oversample_ratio * config.train_num_points), 2, device=masks.device)
        uncertainty = -_sample_each(masks, drawn).abs()
        best = uncertainty.topk(certain, dim=1).indices[..., None].expand(-1, -1, 2)
        anywhere = torch.rand(len(masks), config.train_num_points - certain, 2, device=masks.device)
        return torch.cat([drawn.gather(1, best), anywhere], dim=1)


def _sample(masks: Tensor, points: Tensor, mode: str = "bilinear") -> Tensor:
    """Masks (N, H, W) at shared points (1, P, 2) -> (N, P)."""
    return F.grid_sample(masks[None].float(), 2 * points[None] - 1, mode=mode, align_corners=False)[0, :, 0]


def _sample_each(masks: Tensor, points: Tensor) -> Tensor:
    """Masks (M, H, W), each at its own points (M, P, 2) -> (M, P)."""
    return F.grid_sample(masks[:, None].float(), 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]


def _pairwise_cross_entropy(ours: Tensor, theirs: Tensor) -> Tensor:
    """(Q, P) logits and (N, P) targets -> (Q, N)."""
    return (F.softplus(ours).sum(1, keepdim=True) - ours @ theirs.T) / ours.shape[1]


def _pairwise_dice(ours: Tensor, theirs: Tensor) -> Tensor:
    ours = ours.sigmoid()
    return 1 - (2 * ours @ theirs.T + 1) / (ours.sum(1, keepdim=True) + theirs.sum(1) + 1)


def _dice(ours: Tensor, theirs: Tensor) -> Tensor:
    return 1 - (2 * (ours * theirs).sum(1) + 1) / (ours.sum(1) + theirs.sum(1) + 1)


def _assign(cost: Tensor) -> Match:
    rows, columns = linear_sum_assignment(torch.nan_to_num(cost, posinf=1e6, neginf=-1e6).cpu().numpy())
    return torch.as_tensor(rows, device=cost.device), torch.as_tensor(columns, device=cost.device)
