"""A cosine classifier on frozen features with imprinted novel rows: the GFSS baseline.

Base rows are initialised with class prototypes and trained on base pixels; a novel row is the prototype of its shots,
untrained. The features are frozen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from instsynth_dagster.few_shot.folds import IGNORED
from instsynth_dagster.refinement.prototypes import area_weights, pooled, unit
from instsynth_dagster.seeds import content_seed

SCALE, STEPS, LEARNING_RATE = 16.0, 200, 0.02
PIXELS = 60
"""Pixels sampled of each class and image for the base training."""

Labelled = tuple[np.ndarray, np.ndarray]
"""Features float32 (h, w, D) and a class map uint8 (H, W), 255 where the class is unknown."""
Examples = Sequence[tuple[np.ndarray, np.ndarray]]
"""Features float32 (h, w, D) and the mask bool (H, W) of one class, for each image."""


@dataclass(frozen=True)
class CosineHead:
    """`weights` float32 (C, D) at unit length; row numbers are class numbers. `center` (D,) is subtracted from
    features.
    """

    weights: np.ndarray
    center: np.ndarray

    def predict(self, features: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Class map uint8 at `size` (H, W) of features (h, w, D)."""
        scores = unit(features - self.center) @ self.weights.T
        scores[..., ~self.weights.any(axis=1)] = -2.0  # rows that are not imprinted yet score below every cosine
        planes = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in np.moveaxis(scores, -1, 0)]
        return np.argmax(planes, axis=0).astype(np.uint8)

    def imprint(self, shots: Mapping[int, Examples], synthetic: Mapping[int, Examples] | None = None) -> CosineHead:
        """The head with the rows of novel classes replaced by prototypes.

        Every shot has equal weight, whatever its object's size; the synthetic images together have the weight of the
        shots from which they were made, whatever their number.

        Args:
            shots: class number -> features (h, w, D) and the mask bool (H, W) of the class in each shot.
            synthetic: the same for images synthesised from the shots.
        """
        weights = self.weights.copy()
        for number, examples in shots.items():
            parts = [self._prototype(examples)]
            if synthetic and synthetic.get(number):
                parts.append(self._prototype(synthetic[number]))
            weights[number] = unit(np.sum(parts, axis=0))
        return CosineHead(weights, self.center)

    def _prototype(self, examples: Examples) -> np.ndarray:
        vectors = [
            unit(pooled(unit(features - self.center), area_weights(mask, features.shape[:2])))
            for features, mask in examples
        ]
        return unit(np.sum(vectors, axis=0))


def train_base(images: Sequence[Labelled], classes: int, novel: Sequence[int], seed: int) -> CosineHead:
    """A head for the base classes; pixels of novel classes are left out, and their rows are zero until imprinted.

    Args:
        images: images of the base training.
        classes: number of classes, background 0 included.
    """
    rng = np.random.default_rng(content_seed("base head", seed))
    vectors, numbers = [], []
    for features, labels in images:
        grid = cv2.resize(labels, features.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        for number in np.setdiff1d(np.unique(grid), [*novel, IGNORED]).tolist():
            rows, columns = np.nonzero(grid == number)
            chosen = rng.permutation(len(rows))[:PIXELS]
            vectors.append(features[rows[chosen], columns[chosen]])
            numbers.append(np.full(len(chosen), number))
    pixels, truth = np.concatenate(vectors), np.concatenate(numbers)
    known = np.unique(truth)
    means = np.stack([pixels[truth == number].mean(0) for number in known])
    center = means.mean(0)
    weights = np.zeros((classes, pixels.shape[1]), np.float32)
    weights[known] = _trained(unit(pixels - center), truth, known, unit(means - center))
    return CosineHead(weights, center)


def _trained(pixels: np.ndarray, truth: np.ndarray, known: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Rows float32 (len(known), D) after a softmax regression of cosines, classes weighted equally."""
    target = torch.from_numpy(np.searchsorted(known, truth))
    balance = torch.bincount(target).float().reciprocal()
    inputs = torch.from_numpy(pixels.astype(np.float32))
    rows = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    optimiser = torch.optim.Adam([rows], lr=LEARNING_RATE)
    for _ in range(STEPS):
        optimiser.zero_grad()
        logits = SCALE * inputs @ F.normalize(rows, dim=1).T
        F.cross_entropy(logits, target, weight=balance).backward()
        optimiser.step()
    return F.normalize(rows.detach(), dim=1).numpy()
