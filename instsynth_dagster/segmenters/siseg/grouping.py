"""Instances from displacements: follow them to centroids, number the centroids, and propagate the numbers."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.segmenters.siseg.config import SISegConfig
from instsynth_dagster.segmenters.siseg.propagation import propagate, transition


def destinations(field: Tensor, steps: int) -> Tensor:
    """End position of each cell, (2, h, w) y and x, after following the field for `steps` steps with bilinear
    interpolation.
    """
    _, height, width = field.shape
    start = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).to(field)
    last = field.new_tensor([height - 1, width - 1])[:, None, None]
    place = start
    for _ in range(steps):
        grid = (2 * place / last.clamp(min=1) - 1).flip(0).permute(1, 2, 0)[None]
        moved = F.grid_sample(field[None], grid, align_corners=True)[0]
        place = torch.minimum((place + moved).clamp(min=0), last)
    return place


def group(field: Tensor, pieces: np.ndarray, config: SISegConfig) -> np.ndarray:
    """int32 (h, w): instance numbers from 1, 0 where the class has no instances.

    Cells whose displacement is shorter than `seed_threshold`, or for large pieces than `seed_share` of the root of the
    piece's area, are centroids; connected ones are one. A cell belongs to the centroid at its end position or, without
    one there, to that of the nearest cell that has one, within its piece; a piece without a centroid is one instance.

    Args:
        field: (2, h, w), dy and dx in cells.
        pieces: int32 (h, w), numbers of the connected components of the classes.
    """
    ends = destinations(field, config.refine_steps).round().long().numpy()
    length = field.norm(dim=0).numpy()
    result = np.zeros(pieces.shape, dtype=np.int32)
    count = 0
    for piece in each_piece(pieces):
        threshold = max(config.seed_threshold, config.seed_share * piece.sum() ** 0.5)
        _, seeds = cv2.connectedComponents((piece & (length < threshold)).astype(np.uint8), connectivity=4)
        landed = np.where(piece, seeds[ends[0], ends[1]], 0)
        if landed.any():
            landed = np.where(piece, nearest_number(landed), 0)
            for seed in np.unique(landed[piece]).tolist():
                count += 1
                result[landed == seed] = count
        else:
            count += 1
            result[piece] = count
    return result


def each_piece(pieces: np.ndarray) -> Iterator[np.ndarray]:
    """A bool mask of each number but 0."""
    for number in np.unique(pieces[pieces > 0]).tolist():
        yield pieces == number


def nearest_number(numbers: np.ndarray) -> np.ndarray:
    """Each cell's nearest number that is not 0."""
    if not numbers.any():
        return numbers
    _, nearest = cv2.distanceTransformWithLabels(
        (numbers == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(nearest.max() + 1, dtype=numbers.dtype)
    table[nearest[numbers > 0]] = numbers[numbers > 0]
    return table[nearest]


def smoothed(instances: np.ndarray, boundary: np.ndarray, pieces: np.ndarray, config: SISegConfig) -> np.ndarray:
    """The instances after propagation: each cell takes the number with the highest propagated score.

    Numbers propagate within one piece (see `group`) and do not cross boundaries; a boundary cell starts with score 0.
    Only pieces of more than one instance can change.
    """
    result = instances.copy()
    if not config.walk_steps:
        return result
    for piece in each_piece(pieces):
        numbers = np.unique(instances[piece])
        if len(numbers) < 2:
            continue
        x1, y1, x2, y2 = mask_box(piece)
        in_piece, own, edges = (x[y1:y2, x1:x2] for x in (piece, instances, boundary))
        start = (own[None] == numbers[:, None, None]) * (in_piece * (1.0 - edges))[None]
        walk = transition(edges, in_piece.astype(np.uint8), config.walk_radius, config.walk_beta)
        arrived = propagate(start, walk, config.walk_steps)
        changed = in_piece & (arrived.max(0) > 0)
        result[y1:y2, x1:x2][changed] = numbers[arrived.argmax(0)][changed]
    return result


def to_pixels(instances: np.ndarray, grid: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """Instance numbers of a grid (h, w) -> pixels (H, W): each pixel takes the nearest number of its own piece.

    Args:
        grid: pieces on the grid, int32 (h, w).
        pieces: the same at full resolution, int32 (H, W).
    """
    height, width = pieces.shape
    spread, known = (
        cv2.resize(x.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int32)
        for x in (instances, grid)
    )
    result = np.zeros(pieces.shape, dtype=np.int32)
    extra = int(instances.max())
    for piece in each_piece(pieces):
        numbers = np.where(known == pieces[piece][0], spread, 0)
        if numbers.any():
            result[piece] = nearest_number(numbers)[piece]
        else:  # too small for the grid
            extra += 1
            result[piece] = extra
    return result
