"""FastInst as one module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instsynth_dagster.segmenters.fastinst.config import FastInstConfig
from instsynth_dagster.segmenters.fastinst.decoder import DualPathLayer, PredictionHead, State, where_allowed
from instsynth_dagster.segmenters.fastinst.losses import Criterion, Match, Targets
from instsynth_dagster.segmenters.fastinst.pixel_decoder import PixelDecoder
from instsynth_dagster.segmenters.fastinst.proposals import Proposals, QueryProposal
from instsynth_dagster.segmenters.shared.backbones import build_backbone

STRIDE = 32
_STD = 0.02


class FastInst(nn.Module):
    """Backbone, pixel decoder, query proposal and `decoder_layers` dual-path layers."""

    def __init__(self, config: FastInstConfig) -> None:
        super().__init__()
        self.sizes = config  # not named `config`, to which transformers' Trainer would write
        width, classes = config.hidden_dim, len(config.classes)
        self.backbone = build_backbone(config.backbone_config)
        self.pixel_decoder = PixelDecoder(self.backbone.channels[-3:], width, config.pyramid_dim)
        self.positions = nn.Parameter(torch.randn(1, width, config.position_grid, config.position_grid) * _STD)
        self.proposal = QueryProposal(width, classes, config.num_queries)
        self.auxiliary = nn.Parameter(torch.randn(2, config.num_auxiliary_queries, width) * _STD)
        self.layers = nn.ModuleList(
            DualPathLayer(width, config.num_attention_heads, config.feedforward_dim)
            for _ in range(config.decoder_layers)
        )
        self.heads = nn.ModuleList(
            PredictionHead(width, classes, config.num_auxiliary_queries) for _ in range(config.decoder_layers + 1)
        )
        for part in (self.layers, self.heads):
            for parameter in part.parameters():
                if parameter.ndim > 1:
                    nn.init.xavier_uniform_(parameter)
        self.criterion = Criterion(config)

    def forward(
        self,
        pixel_values: Tensor,
        mask_labels: Sequence[Tensor] | None = None,
        class_labels: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Predictions for a batch, and the loss where labels are given.

        Args:
            pixel_values: float (B, 3, H, W), normalised; any size, padded here to a multiple of 32.
            mask_labels: float (N_i, H, W) of each image.
            class_labels: int64 (N_i,) of each image.

        Returns:
            class_logits (B, Q, C + 1), "no object" last; mask_logits (B, Q, h, w) at a stride of 8 of the padded image;
            with labels also the loss.
        """
        pixels = _padded(pixel_values)
        state, positions, query_positions, proposals, size = self._start(pixels)
        outputs, states = [self.heads[0](state, size)], [state]
        for layer, head in zip(self.layers, list(self.heads)[1:], strict=True):
            allowed = where_allowed(outputs[-1][1].detach() >= 0, state.queries.shape[1])
            state = layer(state, positions, query_positions, allowed)
            states.append(state)
            outputs.append(head(state, size))
        result = {"class_logits": outputs[-1][0], "mask_logits": outputs[-1][1]}
        if mask_labels is not None and class_labels is not None:
            targets = Targets([_padded(masks) for masks in mask_labels], class_labels)
            guided = (states, positions, query_positions, size)
            result = {"loss": self._loss(outputs, proposals, targets, guided), **result}
        return result

    def _start(self, pixels: Tensor) -> tuple[State, Tensor, Tensor, Proposals, tuple[int, int]]:
        """The decoder's first state, positions of pixels and of queries, the proposals and the size of the masks."""
        fine, middle, _ = self.pixel_decoder(self.backbone(pixels).feature_maps[-3:])
        proposals = self.proposal(middle, self._position_map(middle).expand(len(middle), -1, -1, -1))
        extra = self.auxiliary[:, None].expand(-1, len(pixels), -1, -1)
        state = State(fine.flatten(2).transpose(1, 2), torch.cat([proposals.features, extra[0]], dim=1))
        positions = self._position_map(fine).flatten(2).transpose(1, 2)
        return state, positions, torch.cat([proposals.positions, extra[1]], dim=1), proposals, fine.shape[-2:]

    def _position_map(self, like: Tensor) -> Tensor:
        return F.interpolate(self.positions, like.shape[-2:], mode="bilinear")

    def _loss(
        self, outputs: Sequence[tuple[Tensor, Tensor]], proposals: Proposals, targets: Targets, guided: Any
    ) -> Tensor:
        total = self.criterion.proposal_loss(proposals.logits, targets)
        matches: list[Match] = []
        for logits, masks in outputs:
            matches = self.criterion.match(logits, masks, proposals.locations, targets)
            total = total + self.criterion.query_losses(logits, masks, matches, targets)
        if self.sizes.mask_guided:
            for logits, masks in self._guided(matches, targets, *guided):
                total = total + self.criterion.query_losses(logits, masks, matches, targets)
        return total

    def _guided(
        self,
        matches: Sequence[Match],
        targets: Targets,
        states: Sequence[State],
        positions: Tensor,
        query_positions: Tensor,
        size: tuple[int, int],
    ) -> list[tuple[Tensor, Tensor]]:
        """Each layer applied again to its input, with every matched query confined to its ground-truth mask (section
        3.5).
        """
        queries = states[0].queries.shape[1]
        own = queries - self.sizes.num_auxiliary_queries
        inside = torch.zeros(len(matches), own, *size, dtype=torch.bool, device=positions.device)
        for image, (matched, instances) in enumerate(matches):
            if len(matched):
                true = F.interpolate(targets.masks[image][None, instances], size, mode="nearest")[0]
                inside[image, matched] = true > 0.5
        allowed = where_allowed(inside, queries)
        again = (
            layer(state, positions, query_positions, allowed)
            for layer, state in zip(self.layers, states[1:], strict=True)
        )
        return [head(state, size) for head, state in zip(list(self.heads)[1:], again, strict=True)]


def _padded(x: Tensor) -> Tensor:
    """The batch with zeros on the right and at the bottom, to a multiple of the coarsest stride."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
