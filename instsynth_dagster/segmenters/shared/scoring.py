"""Instances from queries: scoring for average precision, as defined by Mask2Former, OneFormer and FastInst.

The library's own post-processing resizes masks to 384x384 and makes one non-overlapping map, which destroys detail and
ranking; here each of the best (query, class) pairs keeps its own full-size mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.segmenters.contract import PREDICTION_COLUMNS

CHUNK_PIXELS = 1 << 24
"""Mask pixels held at full size at a time (64 MiB of float32)."""


@dataclass(frozen=True)
class Geometry:
    """Sizes (height, width) in pixels: `image` was resized to `content`, then padded on the right and at the bottom to
    `padded`.
    """

    image: tuple[int, int]
    content: tuple[int, int]
    padded: tuple[int, int]

    def restore(self, logits: Tensor) -> Tensor:
        """Mask logits (N, h, w) of the network resized to (N, *image), bilinear, with the padding removed."""
        full = _resize(logits, self.padded)[:, : self.content[0], : self.content[1]]
        return _resize(full, self.image)


def class_probabilities(class_logits: Tensor) -> Tensor:
    """float32 (Q, C) of class logits (Q, C + 1), "no object" last."""
    return class_logits.float().softmax(-1)[:, :-1]


def score_instances(
    probabilities: Tensor,
    mask_logits: Tensor,
    classes: Sequence[str],
    geometry: Geometry,
    max_detections: int,
    labels: LabelTable,
) -> pd.DataFrame:
    """The best (query, class) pairs of one image as a prediction table.

    A pair's mask is {logit > 0} at image size, and its score is the class probability times the mean mask probability
    inside the mask. Pairs with an empty mask or probability 0 are left out.

    Args:
        probabilities: float (Q, C) of each class.
        mask_logits: float (Q, h, w) at the network's output stride.
        classes: C names; those without instances (road, sky, ...) give no pairs.
        max_detections: most pairs.
        labels: label table of the data set.

    Returns:
        Table with the columns `PREDICTION_COLUMNS`, best score first.
    """
    things = [index for index, name in enumerate(classes) if labels[name].has_instances]
    of_things = probabilities[:, things]
    best, pairs = of_things.flatten().topk(min(max_detections, of_things.numel()))
    best, pairs = best[best > 0], pairs[best > 0]
    queries, indices = pairs // len(things), pairs % len(things)
    used = queries.unique()
    per_chunk = max(1, CHUNK_PIXELS // max(_area(geometry.image), _area(geometry.padded)))
    masks: dict[int, tuple[float, str]] = {}
    for chunk in used.split(per_chunk):
        logits = geometry.restore(mask_logits[chunk].float())
        inside = logits > 0
        found = inside.cpu().numpy()
        areas = [np.count_nonzero(mask) for mask in found]  # 70 times as fast as a sum of bool over two dimensions
        summed = (logits.sigmoid() * inside).sum((1, 2))
        quality = summed / torch.tensor(areas, device=summed.device).clamp(min=1)
        for query, mask, area, mean in zip(chunk.tolist(), found, areas, quality.tolist(), strict=True):
            if area:
                masks[query] = (mean, encode_rle(mask)["counts"])
    height, width = geometry.image
    rows = [
        (classes[things[index]], probability * masks[query][0], masks[query][1], height, width)
        for probability, query, index in zip(best.tolist(), queries.tolist(), indices.tolist(), strict=True)
        if query in masks
    ]
    table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
    return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _resize(logits: Tensor, size: tuple[int, int]) -> Tensor:
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
