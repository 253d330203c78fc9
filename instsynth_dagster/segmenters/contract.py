"""The interface of every segmenter: fit on a data set, write a checkpoint folder, load it, predict instances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import SegmenterSettings

Progress = Callable[..., None]
"""Called as progress(steps done, total steps), and with the newest loss as a third argument where there is one."""

PREDICTION_COLUMNS = ("class_name", "score", "mask_counts", "mask_height", "mask_width")


class SegmentationDataset(Protocol):
    """Map-style data set of annotated images.

    `dataset[i]` is (image uint8 (H, W, 3) RGB, ids int32 (H, W) id map of the table `labels`); `is_synthetic[i]` is
    True for a synthetic window and False for a real frame; `classes_in` bool (N, C) gives the classes of each sample
    (used for repeat factors only).
    """

    @property
    def labels(self) -> LabelTable: ...
    @property
    def is_synthetic(self) -> Sequence[bool] | np.ndarray: ...
    @property
    def classes_in(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class FitResult:
    """The result of a training. `curve` has the columns step, loss, learning_rate; a loss is the mean since the
    previous row.

    `seconds` includes resumed parts; `peak_memory` is in bytes, of the device, or of the process on a CPU.
    """

    folder: Path
    curve: pd.DataFrame
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Maps:
    """A label for every pixel of an image.

    `panoptic` int32 (H, W): id map, unlabeled where no segment is predicted; `semantic` int32 (H, W): label ids.
    """

    panoptic: np.ndarray
    semantic: np.ndarray


class Predictor(Protocol):
    """A trained segmenter in inference mode."""

    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        """Predicted instances of images of any size.

        Args:
            images: uint8 (H, W, 3) RGB each, sizes may differ.

        Returns:
            One table per image with the columns of `PREDICTION_COLUMNS`, best score first; `mask_counts` is the COCO
            RLE of a non-empty mask of the image's own height and width. A row does not depend on the other images.
        """
        ...

    def maps(self, image: np.ndarray) -> Maps | None:
        """Panoptic and semantic map of one image; None for a segmenter that predicts instances only."""
        ...


class Segmenter(Protocol):
    """A kind of segmenter."""

    def fit(
        self,
        dataset: SegmentationDataset,
        settings: SegmenterSettings,
        *,
        classes: Sequence[str],
        seed: int,
        out: Path,
        scratch: Path,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> FitResult:
        """Train for `settings.steps` optimiser steps and write a `from_pretrained` folder.

        Args:
            dataset: real frames and synthetic windows.
            settings: recipe and architecture.
            classes: names of the classes to learn, in the order of the class head.
            seed: seed of initialisation, draws, augmentation and sampled points.
            out: the checkpoint folder to fill.
            scratch: folder of the state of an unfinished training. Called again after a kill with the same arguments,
                `fit` continues from it, with the same result as an uninterrupted training.
            device: "cpu" or "cuda".

        Raises:
            CheckpointError: a pretrained model or backbone cannot be loaded.
            SettingsError: the data set is empty, the architecture is impossible, or the loss became non-finite.
        """
        ...

    def load(self, folder: Path, settings: SegmenterSettings, *, labels: LabelTable, device: str = "cpu") -> Predictor:
        """The predictor of a checkpoint folder written by `fit`; `labels` is the label table of the data set.

        Raises:
            CheckpointError: the folder is missing, incomplete or of another kind.
        """
        ...


def check_not_empty(dataset: SegmentationDataset) -> None:
    """Check that a data set has samples to train on.

    Raises:
        SettingsError: it has none.
    """
    if not len(dataset):
        raise SettingsError("segmenters: the training set holds no samples; check dataset.train_cities")


def get_segmenter(kind: str) -> Segmenter:
    """The segmenter of a kind named in the settings."""
    kinds = SegmenterSettings.kinds()
    if kind not in kinds:
        raise SettingsError(f"segmenters: unknown kind {kind!r}; known are {', '.join(kinds)}")
    segmenter: Segmenter = kinds[kind].implementation()()
    return segmenter
