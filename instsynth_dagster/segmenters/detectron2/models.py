"""Configurations and models of detectron2; imported only where detectron2 is installed and chosen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import FPN, Backbone, build_model
from torch import Tensor

from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.segmenters.kinds import Detectron2Settings
from instsynth_dagster.segmenters.shared.backbones import build_backbone
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.settings import SegmenterSettings

MASK_RCNN = Path("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml")
META_ARCHITECTURE = "GeneralizedRCNN"
"""The only meta architecture of detectron2 that is trained on instance masks alone and predicts them."""
CONFIG = "config.yaml"
STAGES = ("res2", "res3", "res4", "res5")
UNREADABLE = (RuntimeError, OSError, KeyError, ValueError, AttributeError, AssertionError, yaml.YAMLError)
"""Errors of reading a file as a configuration."""


def read_config(settings: SegmenterSettings, classes: Sequence[str], device: str) -> Any:
    """A configuration to train: `settings.config_file`, or that of `settings.model`, changed by `settings.architecture`
    and by what this project's data require.

    Without pretrained weights every layer is trained and frozen batch normalisation becomes trainable, unless
    `settings.architecture` says otherwise: the layers that detectron2 freezes by default are useless at random values.

    Raises:
        SettingsError: the file cannot be used, or a change names an unknown key.
    """
    assert isinstance(settings, Detectron2Settings)
    trained = Path(settings.model) / CONFIG if settings.model else MASK_RCNN
    named, changes = Path(settings.config_file or trained), settings.architecture
    config = get_cfg()
    try:
        file = str(named) if named.is_file() else model_zoo.get_config_file(str(named))
        config.merge_from_file(file, allow_unsafe=False)
        config.merge_from_list([part for item in changes.items() for part in item])
    except UNREADABLE as error:
        raise SettingsError(f"segmenters.config_file: {named}: {reason(error)}") from None
    if config.MODEL.META_ARCHITECTURE != META_ARCHITECTURE:
        found = config.MODEL.META_ARCHITECTURE
        raise SettingsError(f"segmenters.config_file: {named}: needs a {META_ARCHITECTURE} with masks, not a {found}")
    if not (settings.model or settings.backbone):
        config.MODEL.BACKBONE.FREEZE_AT = changes.get("MODEL.BACKBONE.FREEZE_AT", 0)
        if config.MODEL.RESNETS.NORM == "FrozenBN":
            config.MODEL.RESNETS.NORM = changes.get("MODEL.RESNETS.NORM", "BN")
    if settings.backbone:
        config.INPUT.FORMAT = "RGB"
        config.MODEL.PIXEL_MEAN = [255 * mean for mean in IMAGENET_MEAN]
        config.MODEL.PIXEL_STD = [255 * std for std in IMAGENET_STD]
    config.MODEL.WEIGHTS = ""
    config.MODEL.DEVICE = device
    config.MODEL.MASK_ON, config.MODEL.KEYPOINT_ON = True, False
    config.MODEL.ROI_HEADS.NUM_CLASSES = len(classes)
    config.INPUT.MASK_FORMAT = "bitmask"
    config.TEST.DETECTIONS_PER_IMAGE = settings.max_detections
    return config


def saved_config(file: Path, settings: SegmenterSettings, device: str) -> Any:
    """The configuration of a trained model.

    Raises:
        CheckpointError: the file is no configuration.
    """
    config = get_cfg()
    try:
        config.merge_from_file(str(file), allow_unsafe=False)
    except UNREADABLE as error:
        raise CheckpointError(f"{file}: cannot be read as a configuration of detectron2: {reason(error)}") from None
    config.MODEL.DEVICE = device
    config.TEST.DETECTIONS_PER_IMAGE = settings.max_detections
    return config


def build(config: Any, backbone: dict[str, Any] | None = None) -> Any:
    """A model with new weights.

    Args:
        backbone: description of a backbone of transformers (see `backbones.backbone_description`) that replaces the
            network below the configuration's feature pyramid; None keeps the configuration's own.

    Raises:
        SettingsError: a backbone is given and the configuration has no feature pyramid.
    """
    model = build_model(config)
    if backbone is None:
        return model
    if not isinstance(model.backbone, FPN):
        raise SettingsError("segmenters.backbone: needs a config_file with a feature pyramid (FPN)")
    pyramid = FPN(
        bottom_up=TransformersStages(build_backbone(backbone)),
        in_features=config.MODEL.FPN.IN_FEATURES,
        out_channels=config.MODEL.FPN.OUT_CHANNELS,
        norm=config.MODEL.FPN.NORM,
        top_block=model.backbone.top_block,
        fuse_type=config.MODEL.FPN.FUSE_TYPE,
    )
    model.backbone = pyramid.to(torch.device(config.MODEL.DEVICE))
    return model


class TransformersStages(Backbone):
    """The four stages of a backbone of transformers under detectron2's names."""

    def __init__(self, stages: Any) -> None:
        super().__init__()
        self.stages = stages

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Features of pixels float (B, 3, H, W) at strides 4, 8, 16 and 32."""
        return dict(zip(STAGES, self.stages(pixels).feature_maps, strict=True))

    def output_shape(self) -> dict[str, Any]:
        """Channels and stride of each stage."""
        return {
            name: ShapeSpec(channels=channels, stride=4 * 2**index)
            for index, (name, channels) in enumerate(zip(STAGES, self.stages.channels, strict=True))
        }
