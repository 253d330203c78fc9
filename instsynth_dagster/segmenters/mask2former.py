"""Mask2Former (Cheng et al., 2022) from transformers: built or loaded, trained, and asked for instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    MODEL_FOR_BACKBONE_MAPPING,
    AutoConfig,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
)

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.images import resize_image
from instsynth_dagster.quiet import quiet_transformers
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.augmentation import IMAGENET_MEAN, IMAGENET_STD, TrainingDraws, collate
from instsynth_dagster.segmenters.base import FitResult, Progress, SegmentationDataset
from instsynth_dagster.segmenters.scoring import Geometry, score_instances
from instsynth_dagster.segmenters.training import isolated_random_state, train
from instsynth_dagster.settings import SegmenterSettings
from instsynth_dagster.sources import pretrained

STRIDE = 32
"""Images are padded to a multiple of the coarsest feature stride."""

UNLOADABLE = (OSError, ValueError, RuntimeError, SafetensorError)
"""What the library raises for a folder or id that it cannot load."""


class Mask2FormerSegmenter:
    """`Segmenter` of kind `mask2former`; see `segmenters.base`."""

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
        if not len(dataset):
            raise SettingsError("segmenters: the training set holds no samples; check dataset.train_cities")
        with isolated_random_state(), quiet_transformers():
            torch.manual_seed(content_seed(seed, "initialisation"))
            model = build_model(settings, classes)
        configs: list[Any] = [model.config, model.config.backbone_config]
        for config in configs:
            config.name_or_path = ""  # a checkpoint does not tell where on this machine it came from
        draws = TrainingDraws(dataset, settings, classes, seed, settings.steps * settings.batch_size)
        log = train(
            model,
            draws,
            settings,
            collate=collate,
            backbone=model.model.pixel_level_module.encoder,
            seed=seed,
            scratch=scratch,
            device=device,
            progress=progress,
        )
        with quiet_transformers():
            model.eval().to("cpu").save_pretrained(out)
            _image_processor(len(classes)).save_pretrained(out)
        return FitResult(out, log.curve, log.seconds, log.peak_memory)

    def load(self, folder: Path, settings: SegmenterSettings, *, device: str = "cpu") -> Mask2FormerPredictor:
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder}: no config.json; train the segmenter first")
        with quiet_transformers():
            model = _pretrained(str(folder))
        model.eval().to(device)  # type: ignore[arg-type]
        return Mask2FormerPredictor(model, settings.test_size, settings.max_detections)


class Mask2FormerPredictor:
    """A trained Mask2Former; images go through one by one, so that no result depends on its neighbours."""

    def __init__(
        self, model: Mask2FormerForUniversalSegmentation, test_size: tuple[int, int] | None, max_detections: int
    ) -> None:
        self.model = model
        self.classes = tuple(name for _, name in sorted(dict(model.config.id2label or {}).items()))
        self._test_size = test_size
        self._max_detections = max_detections

    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        return [self._predict_one(image) for image in images]

    @torch.inference_mode()
    def _predict_one(self, image: np.ndarray) -> pd.DataFrame:
        pixels, geometry = prepare(image, self._test_size)
        output = self.model(pixel_values=pixels[None].to(self.model.device))
        return score_instances(
            output.class_queries_logits[0],
            output.masks_queries_logits[0],
            self.classes,
            geometry,
            self._max_detections,
        )


def prepare(image: np.ndarray, test_size: tuple[int, int] | None) -> tuple[Tensor, Geometry]:
    """uint8 (H, W, 3) -> normalised float32 (3, h, w), padded right and below to a multiple of `STRIDE`."""
    height, width = content = test_size or image.shape[:2]
    resized = image if image.shape[:2] == content else resize_image(image, (width, height))
    pixels = torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1).float() / 255
    pixels = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    pixels = F.pad(pixels, (0, -width % STRIDE, 0, -height % STRIDE))
    return pixels, Geometry(image.shape[:2], (height, width), (pixels.shape[1], pixels.shape[2]))


def build_model(settings: SegmenterSettings, classes: Sequence[str]) -> Mask2FormerForUniversalSegmentation:
    """A model to train: pretrained with a new class head, or new on a (pretrained) backbone.

    `settings.architecture` holds values of `Mask2FormerConfig`; `backbone_config` there describes a backbone from
    scratch where `settings.backbone` names none.

    Raises:
        CheckpointError: `settings.model` or `settings.backbone` cannot be loaded.
        SettingsError: `settings.architecture` names an unknown value or an impossible one.
    """
    labels: dict[str, Any] = {
        "id2label": dict(enumerate(classes)),
        "label2id": {name: index for index, name in enumerate(classes)},
    }
    if settings.model:
        return _pretrained(settings.model, ignore_mismatched_sizes=True, **labels)
    values = dict(settings.architecture)
    unknown = sorted(set(values) - {field.name for field in fields(Mask2FormerConfig)})
    if unknown:
        raise SettingsError(f"segmenters.architecture: unknown key {unknown[0]!r} of Mask2FormerConfig")
    backbone = _backbone(settings.backbone) if settings.backbone else None
    if backbone is not None:
        values["backbone_config"] = backbone.config
    try:
        model = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(**values, **labels))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise SettingsError(f"segmenters.architecture: {' '.join(str(error).split())}") from None
    if backbone is not None:
        model.model.pixel_level_module.encoder.load_state_dict(backbone.state_dict())
    return model


def _pretrained(source: str, **options: Any) -> Mask2FormerForUniversalSegmentation:
    name, where = pretrained(source)
    try:
        kind = AutoConfig.from_pretrained(name, **where).model_type
        if kind != "mask2former":
            raise CheckpointError(f"{name}: is a {kind} model, expected mask2former")
        return Mask2FormerForUniversalSegmentation.from_pretrained(
            name, use_safetensors=True, dtype=torch.float32, **where, **options
        )
    except UNLOADABLE as error:
        raise CheckpointError(f"{name}: cannot be loaded as Mask2Former: {_first_line(error)}") from None


def _backbone(source: str) -> Any:
    """The four feature stages of a pretrained backbone, every weight accounted for."""
    name, where = pretrained(source)
    try:
        config = AutoConfig.from_pretrained(name, **where)
        # not AutoBackbone.from_pretrained: that asks the hub even for a local folder
        kind: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
        backbone, report = kind.from_pretrained(
            name,
            out_features=config.stage_names[-4:],
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **where,
        )
    except KeyError:
        raise CheckpointError(f"{name}: a {config.model_type} model cannot be used as a backbone") from None
    except UNLOADABLE as error:
        raise CheckpointError(f"{name}: cannot be loaded as a backbone: {_first_line(error)}") from None
    if report["missing_keys"]:
        raise CheckpointError(f"{name}: weights lack {sorted(report['missing_keys'])[0]!r} of the backbone")
    return backbone


def _image_processor(num_labels: int) -> Mask2FormerImageProcessor:
    """What other tools need to know to feed the checkpoint."""
    return Mask2FormerImageProcessor(
        do_resize=False, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD, size_divisor=STRIDE, num_labels=num_labels
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
