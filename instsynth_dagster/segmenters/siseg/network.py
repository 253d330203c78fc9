"""The network of SISeg: image and semantic map to displacement and boundary, and its training losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from instsynth_dagster.segmenters.shared.normaliser import batch_mean
from instsynth_dagster.segmenters.shared.pyramid import conv
from instsynth_dagster.segmenters.siseg.config import SISegConfig
from instsynth_dagster.segmenters.siseg.pairs import BACKGROUND, IGNORED, gauge_loss, pair_losses, pair_offsets

STRIDE = 4
FIELD_SCALE = 8.0
"""Unit of the network's displacement output in cells, so that distant centroids need no large weights."""


class SISeg(nn.Module):
    """A convolutional encoder and decoder to stride 4 with two heads; the semantic map is part of the input."""

    def __init__(self, config: SISegConfig) -> None:
        super().__init__()
        self.sizes = config  # not named `config`, to which transformers' Trainer would write
        widths = config.widths
        inputs = 3 + len(config.classes) + 1
        self.down = nn.ModuleList(
            nn.Sequential(conv(before, width, stride=2), conv(width, width))
            for before, width in zip((inputs, *widths[:-1]), widths, strict=True)
        )
        self.up = nn.ModuleList(
            conv(coarse + fine, fine) for coarse, fine in zip(widths[:1:-1], widths[-2:0:-1], strict=True)
        )
        self.field = nn.Conv2d(widths[1], 2, 1, bias=False)
        self.boundary = nn.Conv2d(widths[1], 1, 1)

    @property
    def coarsest(self) -> int:
        """The number of pixels to whose multiples image sides are padded."""
        return int(2 ** len(self.sizes.widths))

    def forward(
        self,
        pixel_values: Tensor,
        semantics: Tensor,
        labels: Tensor,
        components: Tensor,
        centroids: Tensor,
        extents: Tensor,
    ) -> dict[str, Tensor]:
        """The loss on a batch.

        Args:
            pixel_values: float (B, 3, H, W), normalised.
            semantics: int64 (B, H, W): 0 background, 1.. classes, 255 unknown.
            labels: int64 (B, h, w) on the output grid, see `pair_losses`.
            components: int64 (B, h, w), see `gauge_loss`.
            centroids: float (B, 2, h, w), true displacements, all nan with semantic supervision.
            extents: float (B, h, w), root of the area of each cell's instance, at least 1: small instances need
                centroids that are as exact, relative to their size, as those of large ones.
        """
        height, width = labels.shape[-2:]
        field, boundary = (x[..., :height, :width] for x in self.fields(pixel_values, semantics))
        config = self.sizes
        chosen = pair_offsets(config.radius)
        drawn = [chosen[index] for index in torch.randperm(len(chosen))[: config.offsets].tolist()]
        pairs = pair_losses(field, boundary.sigmoid(), labels, drawn)
        outside = labels == BACKGROUND
        still = batch_mean(field.abs().sum(1), outside)
        loss = config.boundary_weight * pairs.boundary + config.background_weight * still
        if config.supervision == "instance":
            known = ~centroids.isnan().any(1)
            error = (field - centroids.nan_to_num()).abs().sum(1) / extents
            loss = loss + config.centroid_weight * batch_mean(error, known)
        else:
            loss = loss + pairs.displacement + pairs.background
            loss = loss + config.gauge_weight * gauge_loss(field, components)
        return {"loss": loss}

    def fields(self, pixels: Tensor, semantics: Tensor) -> tuple[Tensor, Tensor]:
        """Displacement (B, 2, h, w), dy and dx in cells, and boundary logits (B, 1, h, w), at stride 4 of the image
        padded to a multiple of `coarsest`."""
        classes = len(self.sizes.classes)
        known = torch.where(semantics == IGNORED, BACKGROUND, semantics)
        planes = F.one_hot(known, classes + 1).permute(0, 3, 1, 2).to(pixels.dtype)
        planes = planes * (semantics != IGNORED)[:, None]
        x = torch.cat([pixels, planes], dim=1)
        x = F.pad(x, (0, -x.shape[3] % self.coarsest, 0, -x.shape[2] % self.coarsest))
        levels: list[Tensor] = []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        for layer, fine in zip(self.up, levels[-2:0:-1], strict=True):
            x = layer(torch.cat([F.interpolate(x, fine.shape[-2:], mode="nearest"), fine], dim=1))
        return FIELD_SCALE * self.field(x), self.boundary(x)
