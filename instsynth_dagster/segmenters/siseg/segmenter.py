"""SISeg behind the segmenter interface, and as a function from semantic maps to instances."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch.utils.data import default_collate

from instsynth_dagster.data.images import resize_ids, resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.sources import trained_folder
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import (
    FitResult,
    Maps,
    Predictor,
    Progress,
    SegmentationDataset,
    check_not_empty,
    get_segmenter,
)
from instsynth_dagster.segmenters.shared.augmentation import TrainingDraws
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE
from instsynth_dagster.segmenters.shared.checkpoints import (
    CONFIG,
    WEIGHTS,
    architecture,
    for_inference,
    save_checkpoint,
)
from instsynth_dagster.segmenters.shared.imagenet import as_pixels, normalised
from instsynth_dagster.segmenters.siseg.config import SISegConfig
from instsynth_dagster.segmenters.siseg.grouping import group, smoothed, to_pixels
from instsynth_dagster.segmenters.siseg.instances import instance_table, numbered
from instsynth_dagster.segmenters.siseg.network import STRIDE, SISeg
from instsynth_dagster.segmenters.siseg.targets import class_components, semantic_classes, siseg_targets
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train
from instsynth_dagster.segmenters.training.steps import is_first_process
from instsynth_dagster.settings import SegmenterSettings

SEMANTICS = "semantics"


class SISegSegmenter:
    """`Segmenter` of kind `siseg`. `settings.architecture` holds values of `SISegConfig`."""

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
        """Train, see `Segmenter.fit`; the steps are those of the fields, the semantic segmenter has its own."""
        check_not_empty(dataset)
        config = architecture(SISegConfig, settings.architecture | {"classes": tuple(classes)})
        with isolated_random_state():
            torch.manual_seed(content_seed(seed, "initialisation"))
            model = SISeg(config)
        before = 0.0
        if config.semantics and not config.trained_semantics:
            folder, state = out / SEMANTICS, scratch / SEMANTICS
            inner = get_segmenter(config.semantics.kind)
            before = inner.fit(
                dataset, config.semantics, classes=classes, seed=seed, out=folder, scratch=state, device=device
            ).seconds
        log = train(
            model,
            TrainingDraws(
                dataset, settings, siseg_targets(config, dataset.labels), seed, settings.steps * settings.batch_size
            ),
            settings,
            collate=default_collate,
            seed=seed,
            scratch=scratch,
            device=device,
            progress=progress,
        )
        if is_first_process():
            text = json.dumps(config.model_dump(mode="json", exclude_unset=True), indent=2)
            save_checkpoint(model.eval().to("cpu"), text, out)
        return FitResult(out, log.curve, log.seconds + before, log.peak_memory)

    def load(
        self, folder: Path, settings: SegmenterSettings, *, labels: LabelTable, device: str = "cpu"
    ) -> SISegPredictor:
        """See `Segmenter.load`."""
        try:
            model = SISeg(SISegConfig.model_validate_json((folder / CONFIG).read_text()))
            model.load_state_dict(load_file(folder / WEIGHTS))
        except UNLOADABLE as error:
            raise CheckpointError(f"{folder}: cannot be loaded as SISeg: {reason(error)}") from None
        model.sizes = config = for_inference(model.sizes, settings)
        source = None
        if config.semantics:
            trained = trained_folder(config.trained_semantics or folder / SEMANTICS)
            source = get_segmenter(config.semantics.kind).load(trained, config.semantics, labels=labels, device=device)
        return SISegPredictor(model.eval().to(device), settings, source, labels, device)


class SISegPredictor:
    """A trained SISeg. `source` provides semantic maps for `predict`; `instances` takes them as an argument."""

    def __init__(
        self, model: SISeg, settings: SegmenterSettings, source: Predictor | None, labels: LabelTable, device: str
    ) -> None:
        self.labels, self.model, self._settings, self._source, self._device = labels, model, settings, source, device

    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        """See `Predictor.predict`."""
        return [self.table(image, self.semantic_map(image)) for image in images]

    def semantic_map(self, image: np.ndarray) -> np.ndarray:
        """Label ids int32 (H, W) from the segmenter named in the settings."""
        maps = self._source.maps(image) if self._source else None
        if maps is None:
            raise SettingsError("segmenters.architecture.semantics: SISeg needs a segmenter that gives semantic maps")
        return maps.semantic

    def maps(self, image: np.ndarray) -> Maps | None:
        """See `Predictor.maps`."""
        if self._source is None:
            return None
        semantic = self.semantic_map(image)
        return Maps(self.instances(image, semantic), semantic)

    def table(self, image: np.ndarray, label_ids: np.ndarray) -> pd.DataFrame:
        """Prediction table for an image and its semantic map, int (H, W) label ids."""
        numbers, sure = self._numbers(image, label_ids)
        return instance_table(numbers, label_ids, 1 - sure, self.labels)

    def instances(self, image: np.ndarray, label_ids: np.ndarray) -> np.ndarray:
        """Id map int32 (H, W) for an image and its semantic map, int (H, W) label ids."""
        return numbered(self._numbers(image, label_ids)[0], label_ids, self.labels)

    @torch.inference_mode()
    def _numbers(self, image: np.ndarray, label_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Instance numbers int32 (H, W), 0 for none, and the boundary float (H, W) in 0..1."""
        config = self.model.sizes
        own = semantic_classes(label_ids, config.classes, self.labels)
        height, width = self._settings.test_size or image.shape[:2]
        resized = image if image.shape[:2] == (height, width) else resize_image(image, (width, height))
        semantics = cv2.resize(own, (width, height), interpolation=cv2.INTER_NEAREST)
        pixels = normalised(as_pixels(resized))[None].to(self._device)
        field, logits = self.model.fields(pixels, torch.from_numpy(semantics.astype(np.int64))[None].to(self._device))
        # components of pixels, not of grid cells, where pieces connected by thin bridges would be separated
        pieces = class_components(own)
        grid = resize_ids(pieces, (width, height))
        grid = grid[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
        rows, columns = grid.shape
        boundary = logits[0, 0, :rows, :columns].sigmoid().cpu().numpy()
        found = group(field[0, :, :rows, :columns].cpu(), grid, config)
        found = smoothed(found, boundary, grid, config)
        numbers = _without_small_pieces(to_pixels(found, grid, pieces), config.min_area)
        return numbers, cv2.resize(boundary, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _without_small_pieces(numbers: np.ndarray, min_area: int) -> np.ndarray:
    areas = np.bincount(numbers.ravel())
    return np.where(areas[numbers] >= min_area, numbers, 0)
