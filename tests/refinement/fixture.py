"""Pseudo-labels with a known truth: three classes, labels too small and off by up to 3 px, objects not there at all."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from instsynth_dagster.refinement.prototypes import Prototypes, filter_regions, relabel_free, unit

SIZE, CLASSES, DEPTH = 48, ("a", "b", "c"), 32


@dataclass(frozen=True)
class Scene:
    """`features` (48, 48, 32); `truth` and `labels` int (48, 48), 0 is background; classes count from 1."""

    features: np.ndarray
    truth: np.ndarray
    labels: np.ndarray


def vectors() -> np.ndarray:
    """Unit vectors (4, 32): the background and the classes."""
    return unit(np.random.default_rng(11).normal(size=(len(CLASSES) + 1, DEPTH)))


def scene(seed: int, noise: float = 0.3, shift: float = 0.45) -> Scene:
    """One image: its classes look `shift` of the way towards another class, and its pixels are noisy."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((SIZE, SIZE), dtype=np.int32)
    corners = rng.permutation([(12, 12), (12, 35), (35, 12), (35, 35)])
    for index, (y, x) in enumerate(corners[:3], 1):
        blob = np.zeros((SIZE, SIZE), np.uint8)
        cv2.ellipse(blob, (int(x), int(y)), (int(rng.integers(6, 10)), int(rng.integers(6, 10))), 0, 0, 360, 1, -1)
        truth[blob == 1] = index
    known = vectors()
    seen = known.copy()
    for index in range(1, len(CLASSES) + 1):
        other = 1 + (index + int(rng.integers(0, 2))) % len(CLASSES)
        seen[index] = unit(known[index] + shift * known[other])
    features = seen[truth] + noise * rng.normal(size=(SIZE, SIZE, DEPTH))
    labels = np.zeros_like(truth)
    for index in range(1, len(CLASSES) + 1):
        inner = cv2.erode((truth == index).astype(np.uint8), np.ones((3, 3)))
        labels[np.roll(inner, rng.integers(-3, 4, 2), (0, 1)) == 1] = index
    for _ in range(3):
        y, x = rng.integers(4, SIZE - 8, 2)
        spot = (slice(y, y + 5), slice(x, x + 5))
        if not truth[spot].any():
            labels[spot] = int(rng.integers(1, len(CLASSES) + 1))
    return Scene(features.astype(np.float32), truth, labels)


def prototypes() -> Prototypes:
    """The global ones, which know nothing of an image's shift."""
    found = vectors().astype(np.float32)
    return Prototypes(dict(zip(CLASSES, found[1:], strict=True)), found[0])


def refined(given: Scene, min_cosine: float = 0.5, blend: float = 0.5) -> np.ndarray:
    """APF and APR of a whole label map; -1 where nothing is clear."""
    known = prototypes()
    kept = {
        name: filter_regions(given.features, given.labels == index, known.classes[name], min_cosine)[0]
        for index, name in enumerate(CLASSES, 1)
    }
    free = ~np.logical_or.reduce(list(kept.values()))
    behind = cv2.erode((given.labels == 0).astype(np.uint8), np.ones((9, 9)), borderValue=1).astype(bool)
    found = relabel_free(given.features, free, kept, behind, known, blend=blend, min_score=0.0, margin=0.0)
    labels = np.full(given.labels.shape, -1)
    labels[found["background"]] = 0
    for index, name in enumerate(CLASSES, 1):
        labels[kept[name] | found[name]] = index
    return labels


def mean_iou(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    """Over the classes and the background, of (labels, truth) pairs together."""
    values = []
    for index in range(len(CLASSES) + 1):
        both = sum(((ours == index) & (truth == index)).sum() for ours, truth in pairs)
        either = sum(((ours == index) | (truth == index)).sum() for ours, truth in pairs)
        values.append(both / either)
    return float(np.mean(values))
