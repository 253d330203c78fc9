"""A data set in which some objects are not annotated, as a few-shot protocol requires."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import cv2
import numpy as np

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.segmenters.contract import SegmentationDataset
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN

RIM = 2
"""Pixels around an erased object that are erased with it."""
_MEAN_COLOUR = np.round(255 * np.array(IMAGENET_MEAN)).astype(np.uint8)


class Unannotated:
    """`SegmentationDataset` with the instances of some classes turned into groups, and erased from the images.

    A segmenter that supports it ignores a group; for others the object is erased (filled with the mean colour), so that
    it is not learned as background. Either way an object without annotation is no negative.

    Args:
        hidden: names of classes.
        kept: instances of hidden classes that stay, their ids by sample.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        hidden: Collection[str],
        kept: Mapping[int, Collection[int]] | None = None,
    ) -> None:
        self._dataset = dataset
        self._hidden = tuple(hidden)
        self._kept = kept or {}

    @property
    def labels(self) -> LabelTable:
        return self._dataset.labels

    @property
    def is_synthetic(self) -> np.ndarray:
        return np.asarray(self._dataset.is_synthetic)

    @property
    def classes_in(self) -> np.ndarray:
        """The classes of each sample according to the data set, including classes that are hidden in a sample."""
        return self._dataset.classes_in

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, ids = self._dataset[index]
        return erase_instances(image, ids, self._hidden, self.labels, self._kept.get(index, ()))


def erase_instances(
    image: np.ndarray, ids: np.ndarray, hidden: Collection[str], labels: LabelTable, kept: Collection[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (H, W, 3) and ids int32 (H, W) in which instances of classes are erased groups, except the `kept`
    ids.
    """
    label_ids = labels.label_ids(ids)
    single = labels.is_instance(ids)
    gone = single & np.isin(label_ids, labels.ids_of(hidden)) & ~np.isin(ids, list(kept))
    if not gone.any():
        return image, ids
    rim = cv2.dilate(gone.astype(np.uint8), np.ones((2 * RIM + 1, 2 * RIM + 1), np.uint8)).astype(bool)
    rim &= gone | ~single  # pixels of its neighbours are not erased
    return np.where(rim[..., None], _MEAN_COLOUR, image), np.where(gone, label_ids, ids)
