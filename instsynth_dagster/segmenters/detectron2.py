"""Models of detectron2 behind the segmenter interface: Mask R-CNN R50-FPN, or any of its config files.

detectron2 is not a dependency and is imported only here. Models and losses are its own; draws, augmentation, optimiser
and evaluation are those of every other segmenter, so that arms compare. An arm is also registered in its catalogue, for
detectron2's own tools.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torchvision.ops import masks_to_boxes

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.masks import encode_rle
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.augmentation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TrainingDraws,
    instance_targets,
    instances_only,
)
from instsynth_dagster.segmenters.backbones import UNLOADABLE, first_line
from instsynth_dagster.segmenters.base import (
    PREDICTION_COLUMNS,
    FitResult,
    Maps,
    Progress,
    SegmentationDataset,
)
from instsynth_dagster.segmenters.training import isolated_random_state, train
from instsynth_dagster.settings import SegmenterSettings
from instsynth_dagster.sources import trained_folder

MASK_RCNN = Path("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
CONFIG, CLASSES, WEIGHTS = "config.yaml", "config.json", "model.safetensors"
INSTALL = "pip install 'setuptools<81' wheel && pip install --no-build-isolation <a checkout of detectron2>"


class Detectron2Segmenter:
    """`Segmenter` of kind `detectron2`.

    `settings.config_file` is a file, or a name in detectron2's model zoo (default Mask R-CNN R50-FPN);
    `settings.architecture` holds changes to it, e.g. {"MODEL.FPN.OUT_CHANNELS": 64}; `settings.model` is a folder
    that `fit` has filled. The zoo's weights are pickles and are not loaded.
    """

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
        if not len(dataset):
            raise SettingsError("segmenters: the training set holds no samples; check dataset.train_cities")
        config = _config(settings, classes, device)
        config.DATASETS.TRAIN = (register_arm(dataset, classes),)
        with isolated_random_state():
            torch.manual_seed(content_seed(seed, "initialisation"))
            model = _build(config)
            if settings.model:
                _load_weights(model, trained_folder(settings.model))
        log = train(
            WithLoss(model),
            TrainingDraws(dataset, settings, instances_only(classes), seed, settings.steps * settings.batch_size),
            settings,
            collate=detectron2_batches(config.INPUT.FORMAT),
            backbone=model.backbone,
            seed=seed,
            scratch=scratch,
            device=device,
            progress=progress,
        )
        out.mkdir(parents=True, exist_ok=True)
        save_model(model.eval().to("cpu"), str(out / WEIGHTS))
        (out / CONFIG).write_text(config.dump())
        (out / CLASSES).write_text(json.dumps({"model_type": "detectron2", "classes": list(classes)}))
        return FitResult(out, log.curve, log.seconds, log.peak_memory)

    def load(self, folder: Path, settings: SegmenterSettings, *, device: str = "cpu") -> Detectron2Predictor:
        """See `Segmenter.load`."""
        _require()
        from detectron2.config import get_cfg

        try:
            classes = json.loads((folder / CLASSES).read_text())["classes"]
            config = get_cfg()
            config.merge_from_file(str(folder / CONFIG), allow_unsafe=False)
        except UNLOADABLE as error:
            raise CheckpointError(f"{folder}: cannot be loaded as detectron2: {first_line(error)}") from None
        config.MODEL.DEVICE = device
        config.TEST.DETECTIONS_PER_IMAGE = settings.max_detections
        model = _build(config).eval()
        _load_weights(model, folder)
        return Detectron2Predictor(model.to(device), classes, config.INPUT.FORMAT)


class Detectron2Predictor:
    """A trained model of detectron2; images go through one by one at their own size."""

    def __init__(self, model: Any, classes: Sequence[str], channels: str) -> None:
        self._model, self._classes, self._channels = model, tuple(classes), channels

    @torch.inference_mode()
    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        """See `Predictor.predict`."""
        return [self._predict_one(image) for image in images]

    def maps(self, image: np.ndarray) -> Maps | None:
        """See `Predictor.maps`."""
        return None

    def _predict_one(self, image: np.ndarray) -> pd.DataFrame:
        height, width = image.shape[:2]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float()
        found = self._model([{"image": _channels(pixels, self._channels), "height": height, "width": width}])[0]
        instances = found["instances"].to("cpu")
        rows = [
            (self._classes[label], score, encode_rle(mask)["counts"], height, width)
            for label, score, mask in zip(
                instances.pred_classes.tolist(), instances.scores.tolist(), instances.pred_masks.numpy(), strict=True
            )
            if mask.any()
        ]
        table = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
        return table.sort_values("score", ascending=False, kind="stable", ignore_index=True)


class WithLoss(nn.Module):
    """A model of detectron2 as `training.train` wants it: a forward that returns a "loss"."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        from detectron2.utils.events import EventStorage

        with EventStorage():  # its modules write figures there and fail without one
            losses = self.model(batched_inputs)
        return {"loss": torch.stack([loss.float() for loss in losses.values()]).sum()}


def detectron2_batches(channels: str) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Makes a batch of items of `TrainingDraws` in detectron2's form; `channels` is "RGB" or "BGR"."""
    from detectron2.structures import BitMasks, Boxes, Instances

    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))

    def one(item: dict[str, Any]) -> dict[str, Any]:
        masks = item["mask_labels"].bool()
        size = tuple(int(side) for side in masks.shape[1:])
        edges = masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0]) if len(masks) else torch.zeros(0, 4)
        instances = Instances(size, gt_boxes=Boxes(edges), gt_classes=item["class_labels"], gt_masks=BitMasks(masks))
        pixels = (item["pixel_values"] * std + mean) * 255
        return {"image": _channels(pixels, channels), "instances": instances}

    return lambda items: {"batched_inputs": [one(item) for item in items]}


def register_arm(dataset: SegmentationDataset, classes: Sequence[str]) -> str:
    """Register a data set in detectron2's catalogue, its annotations read when they are asked for; returns its name."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    name = f"instsynth_{id(dataset):x}"
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)

    def records() -> list[dict[str, Any]]:
        return [_record(index, *dataset[index], classes) for index in range(len(dataset))]

    DatasetCatalog.register(name, records)
    MetadataCatalog.get(name).set(thing_classes=list(classes))
    return name


def _record(index: int, image: np.ndarray, ids: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    from detectron2.structures import BoxMode

    masks, labels = instance_targets(torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int32)), classes)
    boxes = (masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])).tolist() if len(masks) else []
    annotations = [
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": label,
            "segmentation": encode_rle(mask.numpy().astype(bool)),
            "iscrowd": 0,
        }
        for box, label, mask in zip(boxes, labels.tolist(), masks, strict=True)
    ]
    height, width = image.shape[:2]
    return {"image_id": index, "height": height, "width": width, "annotations": annotations}


def _config(settings: SegmenterSettings, classes: Sequence[str], device: str) -> Any:
    _require()
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    named = settings.config_file or MASK_RCNN
    config = get_cfg()
    try:
        file = str(named) if named.is_file() else model_zoo.get_config_file(str(named))
        config.merge_from_file(file, allow_unsafe=False)  # its default builds Python objects from YAML
        config.merge_from_list([part for item in settings.architecture.items() for part in item])
    except Exception as error:
        raise SettingsError(f"segmenters.config_file: {named}: {first_line(error)}") from None
    config.MODEL.WEIGHTS = ""
    config.MODEL.DEVICE = device
    config.MODEL.MASK_ON = True
    config.MODEL.ROI_HEADS.NUM_CLASSES = config.MODEL.RETINANET.NUM_CLASSES = len(classes)
    config.INPUT.MASK_FORMAT = "bitmask"
    config.TEST.DETECTIONS_PER_IMAGE = settings.max_detections
    return config


def _build(config: Any) -> Any:
    from detectron2.modeling import build_model

    return build_model(config)


def _load_weights(model: nn.Module, folder: Path) -> None:
    try:
        load_model(model, folder / WEIGHTS, strict=False)
    except UNLOADABLE as error:
        raise CheckpointError(f"{folder}: cannot be loaded as detectron2: {first_line(error)}") from None


def _channels(pixels: torch.Tensor, order: str) -> torch.Tensor:
    return pixels.flip(0) if order == "BGR" else pixels


def _require() -> None:
    if find_spec("detectron2") is None:
        raise SettingsError(f"segmenters: kind detectron2 needs detectron2, which is not installed: {INSTALL}")
