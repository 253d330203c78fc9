"""Models of detectron2 behind the segmenter interface: Mask R-CNN R50-FPN, or any of its config files.

detectron2 is no dependency and is imported only when chosen. Models and losses are its own; draws, augmentation,
optimiser and evaluation are those of every other segmenter, so that arms are comparable. An arm is also registered in
its catalogue, for detectron2's own tools.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torchvision.ops import masks_to_boxes

from instsynth_dagster.data.images import resize_image
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.sources import trained_folder
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import (
    PREDICTION_COLUMNS,
    FitResult,
    Maps,
    Progress,
    SegmentationDataset,
    check_not_empty,
)
from instsynth_dagster.segmenters.kinds import Detectron2Settings
from instsynth_dagster.segmenters.shared.augmentation import (
    TrainingDraws,
    instance_targets,
    instances_only,
)
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE, backbone_description, load_backbone
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.training.loop import isolated_random_state, train
from instsynth_dagster.segmenters.training.steps import is_first_process
from instsynth_dagster.settings import SegmenterSettings

ARM = "instsynth_train"
"""Name in detectron2's catalogue of the arm that was trained on last."""
CONFIG, DESCRIPTION, WEIGHTS = "config.yaml", "config.json", "model.safetensors"
INSTALL = (
    "pip install 'setuptools<81' wheel 'omegaconf>=2.4' 'fvcore<0.1.6' 'iopath<0.1.10' cloudpickle && "
    "pip install --no-build-isolation --no-deps <a checkout of detectron2>"
)
"""Installs without its declared dependencies, which include an antlr4 that Dagster's asset selection cannot use."""


class Detectron2Segmenter:
    """`Segmenter` of kind `detectron2`.

    `settings.config_file` is a YAML file, or a name in detectron2's model zoo (default Mask R-CNN R50-FPN);
    `settings.architecture` holds changes to it, for example {"MODEL.FPN.OUT_CHANNELS": 64}. `settings.backbone` is a
    backbone of transformers that replaces the configuration's own; `settings.model` is a folder that `fit` has written.
    The zoo's weights are pickles and are not loaded.
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
        check_not_empty(dataset)
        assert isinstance(settings, Detectron2Settings)
        models = _models()
        config = models.read_config(settings, classes, device)
        config.DATASETS.TRAIN = (register_arm(dataset, classes),)
        with isolated_random_state():
            torch.manual_seed(content_seed(seed, "initialisation"))
            pretrained = load_backbone(settings.backbone) if settings.backbone else None
            description = (
                backbone_description(pretrained) if pretrained else _description(settings.model).get("backbone_config")
            )
            model = models.build(config, description)
            if pretrained:
                model.backbone.bottom_up.stages.load_state_dict(pretrained.state_dict())
            if settings.model:
                _load_weights(model, trained_folder(settings.model))
        log = train(
            WithLoss(model),
            TrainingDraws(
                dataset, settings, instances_only(classes, dataset.labels), seed, settings.steps * settings.batch_size
            ),
            settings,
            collate=detectron2_batches(config.INPUT.FORMAT),
            backbone=model.backbone,
            seed=seed,
            scratch=scratch,
            device=device,
            progress=progress,
            divisible=False,
        )
        if is_first_process():
            out.mkdir(parents=True, exist_ok=True)
            save_model(model.eval().to("cpu"), str(out / WEIGHTS))
            (out / CONFIG).write_text(config.dump())
            saved = {"model_type": "detectron2", "classes": list(classes), "backbone_config": description}
            (out / DESCRIPTION).write_text(json.dumps(saved))
        return FitResult(out, log.curve, log.seconds, log.peak_memory)

    def load(
        self, folder: Path, settings: SegmenterSettings, *, labels: LabelTable, device: str = "cpu"
    ) -> Detectron2Predictor:
        """See `Segmenter.load`."""
        models = _models()
        saved = _description(folder)
        config = models.saved_config(folder / CONFIG, settings, device)
        model = models.build(config, saved["backbone_config"]).eval()
        _load_weights(model, folder)
        return Detectron2Predictor(model.to(device), saved["classes"], config.INPUT.FORMAT, settings.test_size)


class Detectron2Predictor:
    """A trained model of detectron2; images are processed one by one, at `test_size` or their own size."""

    def __init__(
        self, model: Any, classes: Sequence[str], channels: str, test_size: tuple[int, int] | None = None
    ) -> None:
        self.model, self._classes, self._channels, self._size = model, tuple(classes), channels, test_size

    @torch.inference_mode()
    def predict(self, images: Sequence[np.ndarray]) -> list[pd.DataFrame]:
        """See `Predictor.predict`."""
        return [self._predict_one(image) for image in images]

    def maps(self, image: np.ndarray) -> Maps | None:
        """See `Predictor.maps`."""
        return None

    def _predict_one(self, image: np.ndarray) -> pd.DataFrame:
        height, width = image.shape[:2]
        resized = resize_image(image, self._size[::-1]) if self._size else image
        pixels = torch.from_numpy(np.ascontiguousarray(resized)).permute(2, 0, 1).float()
        found = self.model([{"image": _channels(pixels, self._channels), "height": height, "width": width}])[0]
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
    """A model of detectron2 adapted to `training.train`: its forward returns a "loss"."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        from detectron2.utils.events import EventStorage

        with EventStorage():  # its modules log to this storage and fail without one
            losses = self.model(batched_inputs)
        return {"loss": torch.stack([loss.float() for loss in losses.values()]).sum()}


def detectron2_batches(channels: str) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """A function that turns items of `TrainingDraws` into a batch in detectron2's form; `channels` is "RGB" or
    "BGR".
    """
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
    """Register a data set as `ARM`, which is returned, in detectron2's catalogue; annotations are read on demand."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    if ARM in DatasetCatalog:
        DatasetCatalog.remove(ARM)
        MetadataCatalog.remove(ARM)

    def records() -> list[dict[str, Any]]:
        return [_record(index, *dataset[index], classes, dataset.labels) for index in range(len(dataset))]

    DatasetCatalog.register(ARM, records)
    MetadataCatalog.get(ARM).set(thing_classes=list(classes))
    return ARM


def _record(
    index: int, image: np.ndarray, ids: np.ndarray, classes: Sequence[str], labels: LabelTable
) -> dict[str, Any]:
    from detectron2.structures import BoxMode

    masks, found = instance_targets(torch.from_numpy(np.ascontiguousarray(ids, dtype=np.int32)), classes, labels)
    boxes = (masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])).tolist() if len(masks) else []
    annotations = [
        {
            "bbox": box,
            "bbox_mode": BoxMode.XYXY_ABS,
            "category_id": label,
            "segmentation": encode_rle(mask.numpy().astype(bool)),
            "iscrowd": 0,
        }
        for box, label, mask in zip(boxes, found.tolist(), masks, strict=True)
    ]
    height, width = image.shape[:2]
    return {"image_id": index, "height": height, "width": width, "annotations": annotations}


def _models() -> Any:
    """The module that imports detectron2.

    Raises:
        SettingsError: it cannot be imported; the message says how to install it.
    """
    try:
        return import_module("instsynth_dagster.segmenters.detectron2.models")
    except ModuleNotFoundError as error:
        if error.name != "detectron2":
            raise _missing(f"lacks {error.name}, which is not installed") from None
        raise _missing("is not installed") from None
    except Exception as error:  # its dependencies raise errors of their own
        raise _missing(f"cannot be imported ({reason(error)})") from None


def _missing(what: str) -> SettingsError:
    return SettingsError(f"segmenters: kind detectron2 needs detectron2, which {what}: {INSTALL}")


def _description(folder: Path | str | None) -> dict[str, Any]:
    """The description that `fit` wrote beside a model's weights; empty without a folder."""
    if not folder:
        return {}
    try:
        saved = json.loads((Path(folder) / DESCRIPTION).read_text())
        return {"classes": saved["classes"], "backbone_config": saved.get("backbone_config")}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: cannot be loaded as detectron2: {reason(error)}") from None


def _load_weights(model: nn.Module, folder: Path) -> None:
    try:
        missing, _ = load_model(model, folder / WEIGHTS, strict=False)
    except UNLOADABLE as error:
        raise CheckpointError(f"{folder}: cannot be loaded as detectron2: {reason(error)}") from None
    if missing:
        raise CheckpointError(f"{folder}: cannot be loaded as detectron2: {WEIGHTS} lacks {min(missing)!r}")


def _channels(pixels: torch.Tensor, order: str) -> torch.Tensor:
    return pixels.flip(0) if order == "BGR" else pixels
