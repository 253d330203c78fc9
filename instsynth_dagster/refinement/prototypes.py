"""Class prototypes on a feature grid: their computation, filtering (APF) and relabelling (APR).

Vectors are compared by cosine; every prototype has unit length. Feature grids are float32 (h, w, D).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np

_BACKGROUND = ""
MIN_CELLS = 1.0
"""Area in grid cells below which a region is too small to be classified."""


@dataclass(frozen=True)
class Prototypes:
    """A unit vector float32 (D,) for each class, and `background` for everything else.

    `center` (D,) is subtracted from every feature first: the component common to all pixels does not discriminate, and
    makes all cosines of a network with rectified features large.
    """

    classes: Mapping[str, np.ndarray]
    background: np.ndarray
    center: np.ndarray | float = 0.0

    def centred(self, features: np.ndarray) -> np.ndarray:
        """Features (h, w, D) in the form in which they are compared with the prototypes."""
        return features - self.center


def area_weights(mask: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Share of each grid cell that a mask covers, float32 (h, w); unlike with nearest sampling, thin masks are not
    lost.

    Args:
        mask: bool (H, W).
    """
    return cv2.resize(mask.astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (..., D) at length one; a zero vector is unchanged."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def pooled(features: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted sum float64 (D,) of a grid; weights float (h, w)."""
    return np.tensordot(weights.astype(np.float64), features.astype(np.float64), axes=([0, 1], [0, 1]))


def build_prototypes(support: Iterable[tuple[np.ndarray, Mapping[str, np.ndarray], np.ndarray]]) -> Prototypes:
    """Global prototypes of APF: the mean over all support pixels of a class, weighted by area, minus the mean over the
    classes and the background, at unit length.

    Args:
        support: for each image its features (h, w, D), a bool mask (H, W) for each class that it shows, and the bool
            mask of the background.

    Raises:
        ValueError: the support is empty.
    """
    sums: dict[str, np.ndarray] = {}
    weights: dict[str, float] = {}
    for features, masks, behind in support:
        for name, mask in {**masks, _BACKGROUND: behind}.items():
            covered = area_weights(mask, features.shape[:2])
            sums[name] = sums.get(name, 0.0) + pooled(features, covered)
            weights[name] = weights.get(name, 0.0) + float(covered.sum())
    means = {name: total / weights[name] for name, total in sums.items() if weights[name] >= MIN_CELLS}
    if _BACKGROUND not in means:
        raise ValueError("prototypes need at least one support image with background")
    center = np.mean(list(means.values()), axis=0)
    found = {name: unit(mean - center).astype(np.float32) for name, mean in means.items()}
    background = found.pop(_BACKGROUND)
    return Prototypes(found, background, center.astype(np.float32))


def filter_regions(
    features: np.ndarray, mask: np.ndarray, prototype: np.ndarray, min_cosine: float
) -> tuple[np.ndarray, np.ndarray]:
    """APF: connected regions whose mean feature is close to the prototype are kept, the others are freed.

    Args:
        features: (h, w, D).
        mask: bool (H, W) of one instance or class.
        prototype: (D,), unit length.
        min_cosine: the threshold lambda.

    Returns:
        kept and freed, bool (H, W), a partition of the mask. A region smaller than a grid cell is treated like the
        others together.
    """
    count, regions = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    kept = np.zeros_like(mask)
    small = np.zeros_like(mask)
    for number in range(1, count):
        region = regions == number
        weights = area_weights(region, features.shape[:2])
        if weights.sum() < MIN_CELLS:
            small |= region
        elif float(unit(pooled(features, weights)) @ prototype) >= min_cosine:
            kept |= region
    if kept.any() or not (mask & ~small).any():
        kept |= small
    return kept, mask & ~kept


def relabel_free(
    features: np.ndarray,
    free: np.ndarray,
    seeds: Mapping[str, np.ndarray],
    background: np.ndarray,
    prototypes: Prototypes,
    *,
    blend: float,
    min_score: float,
    margin: float,
) -> dict[str, np.ndarray]:
    """APR: free pixels get the class of the nearest image-adaptive prototype, where that is clear.

    A class's prototype is blended with that of its kept pixels in this image: beta * global + (1 - beta) * local;
    without kept pixels it is the global one. The background takes part, blended in the same way.

    Args:
        free: bool (H, W), the pixels to label.
        seeds: kept pixels of each candidate class, bool (H, W).
        background: bool (H, W), pixels of this image known to be background.
        blend: beta; 1 ignores the image.
        min_score: least cosine of the winner.
        margin: least lead of the winner over the next.

    Returns:
        For each class, and for "background", the free pixels that it won; pixels in none of them are unclear.
    """
    names = [name for name in seeds if name in prototypes.classes]
    grid = features.shape[:2]
    adapted = [_blended(features, prototypes.classes[name], seeds[name], blend) for name in names]
    adapted.append(_blended(features, prototypes.background, background, blend))
    scores = unit(features.reshape(-1, features.shape[-1])) @ np.stack(adapted).T
    full = _upsampled(scores.reshape(*grid, -1).astype(np.float32), free.shape)
    winner = full.argmax(-1)
    ranked = np.sort(full, axis=-1)
    clear = (ranked[..., -1] >= min_score) & (
        ranked[..., -1] - (ranked[..., -2] if full.shape[-1] > 1 else -1.0) >= margin
    )
    return {name: free & clear & (winner == index) for index, name in enumerate([*names, "background"])}


def _blended(features: np.ndarray, prototype: np.ndarray, seeds: np.ndarray, blend: float) -> np.ndarray:
    weights = area_weights(seeds, features.shape[:2])
    if weights.sum() < MIN_CELLS:
        return prototype
    return unit(blend * prototype + (1 - blend) * unit(pooled(features, weights)))


def _upsampled(scores: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    channels = [
        cv2.resize(scores[..., c], size[1::-1], interpolation=cv2.INTER_LINEAR) for c in range(scores.shape[-1])
    ]
    return np.stack(channels, axis=-1)
