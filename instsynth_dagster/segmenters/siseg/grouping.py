"""Displacements -> instances: follow them to centroids, number the centroids, carry the numbers along."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from instsynth_dagster.segmenters.siseg.config import SISegConfig
from instsynth_dagster.segmenters.siseg.pairs import IGNORED
from instsynth_dagster.segmenters.siseg.propagation import propagate, transition


def destinations(field: Tensor, steps: int) -> Tensor:
    """Where each cell ends, (2, h, w) y and x, after following the field for `steps` steps with bilinear reading."""
    _, height, width = field.shape
    start = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).to(field)
    last = field.new_tensor([height - 1, width - 1])[:, None, None]
    place = start
    for _ in range(steps):
        grid = (2 * place / last.clamp(min=1) - 1).flip(0).permute(1, 2, 0)[None]
        moved = F.grid_sample(field[None], grid, align_corners=True)[0]
        place = torch.minimum((place + moved).clamp(min=0), last)
    return place


def group(field: Tensor, semantics: np.ndarray, config: SISegConfig) -> np.ndarray:
    """int32 (h, w): instance numbers from 1, 0 where the class has no instances.

    Cells whose displacement is shorter than `seed_threshold` are centroids; connected ones of one class are one. A cell
    belongs to the centroid where it ends, or to the nearest of its own class within its connected component; a component
    without a centroid is one instance.

    Args:
        field: (2, h, w), dy and dx in cells. semantics: uint8 (h, w), 0 background, 255 unknown.
    """
    foreground = (semantics > 0) & (semantics != IGNORED)
    ends = destinations(field, config.refine_steps).round().long().numpy()
    still = (field.norm(dim=0) < config.seed_threshold).numpy() & foreground
    result = np.zeros(semantics.shape, dtype=np.int32)
    count = 0
    for number in np.unique(semantics[foreground]).tolist():
        inside = semantics == number
        _, seeds = cv2.connectedComponents((still & inside).astype(np.uint8), connectivity=4)
        pieces_count, pieces = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
        landed = np.where(inside, seeds[ends[0], ends[1]], 0)
        # a seed counts for a cell only in the cell's own piece: what an occluder parts stays apart
        for piece in range(1, pieces_count):
            own = pieces == piece
            found = np.unique(seeds[own & (seeds > 0)])
            if not found.size:
                count += 1
                result[own] = count
                continue
            assigned = np.where(own & np.isin(landed, found), landed, 0)
            assigned = np.where(own, _nearest(assigned), 0)
            for seed in np.unique(assigned[assigned > 0]).tolist():
                count += 1
                result[assigned == seed] = count
    return result


def _nearest(numbers: np.ndarray) -> np.ndarray:
    """Each cell's nearest number that is not 0."""
    if not numbers.any():
        return numbers
    _, nearest = cv2.distanceTransformWithLabels(
        (numbers == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(nearest.max() + 1, dtype=numbers.dtype)
    table[nearest[numbers > 0]] = numbers[numbers > 0]
    return table[nearest]


def smoothed(instances: np.ndarray, boundary: np.ndarray, semantics: np.ndarray, config: SISegConfig) -> np.ndarray:
    """The instances after propagation: each cell takes the number whose score arrives strongest, within its class.

    Numbers walk over cells of one class only and do not cross boundaries; a boundary cell starts with no score.
    """
    if not config.walk_steps or not instances.any():
        return instances
    numbers = np.arange(1, instances.max() + 1)
    start = (instances[None] == numbers[:, None, None]) * (1 - boundary)[None]
    arrived = propagate(start, transition(boundary, semantics, config.walk_radius, config.walk_beta), config.walk_steps)
    return np.where((instances > 0) & (arrived.max(0) > 0), arrived.argmax(0) + 1, instances).astype(np.int32)


def to_pixels(instances: np.ndarray, semantics: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Instance numbers of a grid (h, w) -> pixels (H, W): each pixel of a class takes the nearest number of its class.

    Args:
        semantics: uint8 (H, W). grid: the classes at the grid, uint8 (h, w).
    """
    height, width = semantics.shape
    result = np.zeros(semantics.shape, dtype=np.int32)
    next_number = int(instances.max()) + 1
    for number in np.unique(semantics[(semantics > 0) & (semantics != IGNORED)]).tolist():
        inside = semantics == number
        own = np.where(grid == number, instances, 0)
        spread = cv2.resize(own.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST).astype(np.int32)
        pieces_count, pieces = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
        for piece in range(1, pieces_count):
            here = pieces == piece
            numbers = np.where(here, spread, 0)
            if not numbers.any():  # too small for the grid
                result[here] = next_number
                next_number += 1
                continue
            result[here] = _nearest(numbers)[here]
    return result
