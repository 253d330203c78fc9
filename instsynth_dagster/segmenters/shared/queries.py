"""The common base of query-based segmenters: training, and prediction image by image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from instsynth_dagster.data.images import resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import FitResult, Maps, Progress, SegmentationDataset, check_not_empty
from instsynth_dagster.segmenters.shared.augmentation import (
    Targets,
    TrainingDraws,
    collate,
    instances_only,
)
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.shared.scoring import Geometry, score_instances
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train
from instsynth_dagster.segmenters.training.steps import is_first_process
from instsynth_dagster.settings import SegmenterSettings

STRIDE = 32
"""The coarsest feature stride of a four-stage backbone."""


class QuerySegmenter(ABC):
    """A `Segmenter` (see `segmenters.contract`) around a module that predicts classes and masks of queries."""

    @abstractmethod
    def build(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> nn.Module:
        """A module to train; its forward takes a collated batch and returns a "loss"."""

    def is_divisible(self, settings: SegmenterSettings) -> bool:
        """Whether a batch may be processed in micro-batches; see `training.loop.train`."""
        return True

    def prepare(
        self,
        model: Any,
        dataset: SegmentationDataset,
        settings: SegmenterSettings,
        *,
        classes: Sequence[str],
        seed: int,
        scratch: Path,
        device: str,
    ) -> None:
        """A stage of training before the main one, by default none; its state is kept below `scratch`."""
        return

    @abstractmethod
    def backbone(self, model: Any) -> nn.Module:
        """The part of the model that is trained at `backbone_lr_factor` of the learning rate."""

    @abstractmethod
    def save(self, model: Any, classes: Sequence[str], out: Path) -> None:
        """Fill a checkpoint folder; the model is on the CPU and in evaluation mode."""

    @abstractmethod
    def restore(self, folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
        """Inverse of `save`: the model and its classes."""

    @abstractmethod
    def infer(self, model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Class probabilities (Q, C) and mask logits (Q, h, w) of pixels float (1, 3, H, W)."""

    def stride(self, model: Any) -> int:
        """The number of pixels to whose multiples image sides are padded."""
        return STRIDE

    def test_size(self, model: Any, settings: SegmenterSettings) -> tuple[int, int] | None:
        """Height and width to which images are resized; None: unchanged."""
        return settings.test_size

    def targets(self, settings: SegmenterSettings, classes: Sequence[str], labels: LabelTable) -> Targets:
        """The training targets of an id map."""
        return instances_only(classes, labels)

    def draws(
        self, dataset: SegmentationDataset, settings: SegmenterSettings, classes: Sequence[str], model: Any, seed: int
    ) -> Dataset:
        """The items on which a model of `build` is trained, `steps` x `batch_size` of them."""
        count = settings.steps * settings.batch_size
        return TrainingDraws(dataset, settings, self.targets(settings, classes, dataset.labels), seed, count)

    def batches(
        self, settings: SegmenterSettings, classes: Sequence[str], model: Any
    ) -> Callable[[list[Any]], dict[str, Any]]:
        """A function that turns items of `TrainingDraws` into a batch for a model of `build`."""
        return collate

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
        """See `Segmenter.fit`."""
        check_not_empty(dataset)
        with isolated_random_state(), quiet_transformers():
            torch.manual_seed(content_seed(seed, "initialisation"))
            model = self.build(settings, classes, dataset.labels)
        self.prepare(model, dataset, settings, classes=classes, seed=seed, scratch=scratch, device=device)
        log = train(
            model,
            self.draws(dataset, settings, classes, model, seed),
            settings,
            collate=self.batches(settings, classes, model),
            backbone=self.backbone(model),
            seed=seed,
            scratch=scratch,
            device=device,
            progress=progress,
            divisible=self.is_divisible(settings),
        )
        if is_first_process():
            with quiet_transformers():
                self.save(model.eval().to("cpu"), classes, out)
        return FitResult(out, log.curve, log.seconds, log.peak_memory)

    def load(
        self, folder: Path, settings: SegmenterSettings, *, labels: LabelTable, device: str = "cpu"
    ) -> QueryPredictor:
        """See `Segmenter.load`."""
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder}: no config.json; train the segmenter first")
        with quiet_transformers():
            model, classes = self.restore(folder)
        model.eval().to(device)
        return self.predictor(model, classes, settings, labels, device)

    def predictor(
        self, model: nn.Module, classes: Sequence[str], settings: SegmenterSettings, labels: LabelTable, device: str
    ) -> QueryPredictor:
        """The predictor of a model in evaluation mode that is already on the device."""

        def infer(pixels: Tensor) -> tuple[Tensor, Tensor]:
            return self.infer(model, pixels.to(device))

        size, stride = self.test_size(model, settings), self.stride(model)
        return QueryPredictor(model, infer, classes, labels, settings.max_detections, size, stride)


class QueryPredictor:
    """A trained segmenter; images are processed one by one, so that no result depends on the others."""

    def __init__(
        self,
        model: nn.Module,
        infer: Callable[[Tensor], tuple[Tensor, Tensor]],
        classes: Sequence[str],
        labels: LabelTable,
        max_detections: int,
        test_size: tuple[int, int] | None = None,
        stride: int = STRIDE,
    ) -> None:
        self.model, self.classes, self.labels = model, tuple(classes), labels
        self._infer, self._max_detections, self._test_size, self._stride = infer, max_detections, test_size, stride

    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        """See `Predictor.predict`."""
        return [self._predict_one(image) for image in images]

    def maps(self, image: np.ndarray) -> Maps | None:
        """See `Predictor.maps`."""
        return None

    @torch.inference_mode()
    def _predict_one(self, image: np.ndarray) -> pd.DataFrame:
        pixels, geometry = prepare(image, self._test_size, self._stride)
        found = self._infer(pixels[None])
        return score_instances(*found, self.classes, geometry, self._max_detections, self.labels)


def prepare(image: np.ndarray, test_size: tuple[int, int] | None, stride: int = STRIDE) -> tuple[Tensor, Geometry]:
    """uint8 (H, W, 3) -> normalised float32 (3, h, w), padded on the right and at the bottom to a multiple of
    `stride`.
    """
    height, width = content = test_size or image.shape[:2]
    resized = image if image.shape[:2] == content else resize_image(image, (width, height))
    pixels = torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1).float() / 255
    pixels = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    pixels = F.pad(pixels, (0, -width % stride, 0, -height % stride))
    return pixels, Geometry(image.shape[:2], (height, width), (pixels.shape[1], pixels.shape[2]))
