"""Training targets of SISeg from an id map: from its classes alone, or from its instances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.segmenters.shared.augmentation import Targets
from instsynth_dagster.segmenters.siseg.config import SISegConfig
from instsynth_dagster.segmenters.siseg.network import STRIDE
from instsynth_dagster.segmenters.siseg.pairs import IGNORED


def semantic_classes(label_ids: np.ndarray, classes: Sequence[str], labels: LabelTable) -> np.ndarray:
    """uint8 (H, W) of label ids: 0 background, 1.. `classes`, 255 void."""
    if len(classes) >= IGNORED:
        raise SettingsError(f"siseg separates at most {IGNORED - 1} classes, here are {len(classes)}")
    table = np.zeros(max(labels.by_id) + 1, dtype=np.uint8)
    table[labels.void_ids] = IGNORED
    for number, name in enumerate(classes, 1):
        table[labels.id_of(name)] = number
    return table[label_ids]


def class_components(semantics: np.ndarray) -> np.ndarray:
    """int32 (h, w): 8-connected components of equal classes, 0 for background."""
    result = np.zeros(semantics.shape, dtype=np.int32)
    for number in np.unique(semantics[(semantics > 0) & (semantics != IGNORED)]).tolist():
        _, pieces = cv2.connectedComponents((semantics == number).astype(np.uint8), connectivity=8)
        result[pieces > 0] = pieces[pieces > 0] + result.max()
    return result


def extents(instances: np.ndarray) -> np.ndarray:
    """float32 (h, w): root of the area of each cell's instance, in cells."""
    _, inverse, areas = np.unique(instances, return_inverse=True, return_counts=True)
    return np.sqrt(areas[inverse.reshape(instances.shape)]).astype(np.float32)


def displacements(instances: np.ndarray) -> np.ndarray:
    """float32 (2, h, w): from each cell to the centroid of its instance, dy and dx; nan where it has none (0)."""
    _, inverse, areas = np.unique(instances, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(instances.shape)
    grid = np.stack(np.meshgrid(*map(np.arange, instances.shape), indexing="ij")).astype(np.float64)
    centers = np.stack([np.bincount(inverse.ravel(), plane.ravel()) / areas for plane in grid])
    field = centers[:, inverse] - grid
    field[:, instances == 0] = np.nan
    return field.astype(np.float32)


def siseg_targets(config: SISegConfig, labels: LabelTable) -> Targets:
    """`Targets` of a training; with semantic supervision instance numbers are dropped before anything is computed."""

    def targets(ids: Tensor) -> dict[str, Any]:
        numbers = ids.numpy()
        semantics = semantic_classes(labels.label_ids(numbers), config.classes, labels)
        grid = semantics[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        regions = grid.astype(np.int64)
        if config.supervision == "instance":
            instances = np.where(grid > 0, numbers[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE], 0)
            instances = np.where(labels.is_instance(instances) & (grid != IGNORED), instances, 0)
            regions = np.where(instances > 0, instances, np.where(grid == 0, 0, IGNORED))
            field, sizes = displacements(instances), extents(instances)
        else:
            field = np.full((2, *grid.shape), np.nan, dtype=np.float32)
            sizes = np.ones(grid.shape, dtype=np.float32)
        return {
            "semantics": torch.from_numpy(semantics.astype(np.int64)),
            "labels": torch.from_numpy(regions.astype(np.int64)),
            "components": torch.from_numpy(class_components(grid).astype(np.int64)),
            "centroids": torch.from_numpy(field),
            "extents": torch.from_numpy(sizes),
        }

    return targets
