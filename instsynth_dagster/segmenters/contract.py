"""What every segmenter keeps: fit on a data set, leave a checkpoint folder, load it, predict instances."""

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
"""Called as progress(steps done, steps in all), and with the newest loss as a third argument where there is one."""

PREDICTION_COLUMNS = ("class_name", "score", "mask_counts", "mask_height", "mask_width")


class SegmentationDataset(Protocol):
    """Map-style data set of annotated images.

    `dataset[i]` is (image uint8 (H, W, 3) RGB, ids int32 (H, W) id map of the table `labels`); `is_synthetic[i]` tells
    a synthetic window from a real frame, `classes_in` bool (N, C) which classes a sample holds (read for repeat factors
    only).
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
    """A finished training. `curve` has the columns step, loss, learning_rate; a loss is the mean since the row before.

    `seconds` counts resumed parts as well; `peak_memory` is in bytes, of the device, or of the process on a CPU.
    """

    folder: Path
    curve: pd.DataFrame
    seconds: float
    peak_memory: int


@dataclass(frozen=True)
class Maps:
    """Every pixel of an image named.

    `panoptic` int32 (H, W): id map, unlabeled where nothing is claimed; `semantic` int32 (H, W): label ids.
    """

    panoptic: np.ndarray
    semantic: np.ndarray


class Predictor(Protocol):
    """A trained segmenter, ready to segment."""

    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        """Segment images of any size.

        Args:
            images: uint8 (H, W, 3) RGB each, sizes may differ.

        Returns:
            One table per image with the columns of `PREDICTION_COLUMNS`, best score first; `mask_counts` is the COCO
            RLE of a non-empty mask of the image's own height and width. A row does not depend on the other images.
        """
        ...

    def maps(self, image: np.ndarray) -> Maps | None:
        """Panoptic and semantic map of one image; None from a segmenter that knows instances only."""
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
            seed: of initialisation, draws, augmentation and sampled points.
            out: the checkpoint folder to fill.
            scratch: where the state of an unfinished training is kept. Called again after a kill with the same
                arguments, `fit` goes on from there and ends as if it had never been killed.
            device: "cpu" or "cuda".

        Raises:
            CheckpointError: a pretrained model or backbone cannot be loaded.
            SettingsError: the data set is empty, the architecture is impossible, or the loss left the finite numbers.
        """
        ...

    def load(self, folder: Path, settings: SegmenterSettings, *, labels: LabelTable, device: str = "cpu") -> Predictor:
        """Load a checkpoint folder written by `fit`; `labels` is the table of the data set.

        Raises:
            CheckpointError: the folder is missing, incomplete or of another kind.
        """
        ...


def get_segmenter(kind: str) -> Segmenter:
    """The segmenter of a kind named in the settings."""
    kinds = SegmenterSettings.kinds()
    if kind not in kinds:
        raise SettingsError(f"segmenters: unknown kind {kind!r}; known are {', '.join(kinds)}")
    segmenter: Segmenter = kinds[kind].implementation()()
    return segmenter
