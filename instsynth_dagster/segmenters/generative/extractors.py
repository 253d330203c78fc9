"""Feature extractors of the generative segmenter: a diffusion UNet, or the convolutional control."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from instsynth_dagster.errors import SettingsError
from instsynth_dagster.models.smaller_unets import smaller_unet
from instsynth_dagster.models.unet_taps import Parts, UNetTaps, load_parts
from instsynth_dagster.segmenters.generative.config import ExtractorConfig
from instsynth_dagster.segmenters.shared.augmentation import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.shared.pyramid import conv

STEM_STRIDE = 4


class UNetExtractor(nn.Module):
    """`UNetTaps` of ImageNet-normalised pixels; `teacher` is the full UNet where a smaller one is distilled from it."""

    def __init__(self, config: ExtractorConfig, *, with_teacher: bool) -> None:
        super().__init__()
        parts = load_parts(str(config.model), config.caption, tiny_vae=config.tiny_vae, key="extractor.model")
        whole = [copy.deepcopy(parts)] if with_teacher and config.remove != "nothing" else []
        if config.random_weights:
            _randomise_unet(parts)
        elif config.remove != "nothing":
            small = smaller_unet(parts.unet, config.remove)
            parts = Parts(parts.vae, small, parts.schedule, parts.caption)
        self.taps = UNetTaps(parts, config.stages, config.timestep, truncate=config.truncate)
        self.teacher = UNetTaps(whole[0], config.stages, config.timestep) if whole else None
        self.strides, self.channels, self.coarsest = self.taps.strides, self.taps.channels, self.taps.coarsest

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps of the taps, coarsest first."""
        return self.taps(to_generator_range(pixels))


def to_generator_range(pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) converted from ImageNet normalisation to -1..1."""
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return 2 * (pixels * std + mean) - 1


def _randomise_unet(parts: Parts) -> None:
    """Give the UNet new random weights, in place; the autoencoder keeps its own, so that only the effect of denoising
    training is removed.
    """
    fresh = type(parts.unet)(**dict(parts.unet.config))
    parts.unet.load_state_dict(fresh.state_dict())


class ConvExtractor(nn.Module):
    """Residual convolutions at stride 4, 8, ...: the control without a generator."""

    def __init__(self, config: ExtractorConfig) -> None:
        super().__init__()
        first = config.widths[0]
        self.stem = nn.Sequential(conv(3, first, stride=2), conv(first, first, stride=2))
        inputs = [first, *config.widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(
                conv(before, width, stride=1 if index == 0 else 2), *(_Residual(width) for _ in range(config.layers))
            )
            for index, (before, width) in enumerate(zip(inputs, config.widths, strict=True))
        )
        self.strides = tuple(STEM_STRIDE * 2**index for index in reversed(range(len(config.widths))))
        self.channels = config.widths[::-1]
        self.coarsest = self.strides[0]

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Maps coarsest first."""
        x, maps = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps[::-1]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width, activate=False))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def build_extractor(config: ExtractorConfig, *, with_teacher: bool = False) -> Any:
    """The extractor of a configuration, its pretrained weights loaded.

    Raises:
        CheckpointError: the generator cannot be loaded.
        SettingsError: it does not have one of the up blocks.
    """
    if config.kind == "conv":
        return ConvExtractor(config)
    try:
        return UNetExtractor(config, with_teacher=with_teacher)
    except SettingsError as error:
        raise SettingsError(f"segmenters.architecture.extractor.{error}") from None
