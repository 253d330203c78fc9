"""Frozen feature extractors by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from instsynth_dagster.errors import CheckpointError, SettingsError, reason
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.models.sources import load_complete_model, pretrained
from instsynth_dagster.segmenters.shared.backbones import UNLOADABLE, load_backbone
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD
from instsynth_dagster.segmenters.shared.queries import STRIDE
from instsynth_dagster.segmenters.shared.scoring import class_probabilities
from instsynth_dagster.segmenters.shared.transformers_models import load_pretrained
from instsynth_dagster.settings import FeatureSettings

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Extractor = Callable[[np.ndarray], np.ndarray]
"""Maps an image uint8 (H, W, 3) RGB of any size to features float32 (h, w, D)."""


def build_extractor(settings: FeatureSettings, device: str) -> Extractor:
    """The extractor of the settings, with its weights loaded.

    `backbone`: the chosen stages of a convolutional net, of a segmenter's backbone, or of DINOv2, each at unit length,
    resized to the finest and concatenated. `clip`: patch tokens of a CLIP vision tower. `segmenter`: the scores of a
    trained Mask2Former for each of its classes at each pixel. `diffusion`: see `DiffusionFeatures`.

    Raises:
        CheckpointError: the weights cannot be loaded.
        SettingsError: a stage that the backbone does not have.
    """
    with quiet_transformers():
        return {"backbone": _backbone, "clip": _clip, "diffusion": _diffusion, "segmenter": _segmenter}[settings.kind](
            settings, device
        )


def _backbone(settings: FeatureSettings, device: str) -> Extractor:
    model = load_backbone(settings.model).eval().to(device)
    stages = len(model.out_features)
    if any(stage >= stages for stage in settings.stages):
        raise SettingsError(f"refinement.features.stages: {settings.model} has stages 0 to {stages - 1}")
    patch = getattr(model.config, "patch_size", 1)
    # a vision transformer reads whole patches; a pyramid reads any size
    stride = int(patch) if hasattr(model.config, "num_hidden_layers") and isinstance(patch, int) else 1

    @torch.inference_mode()
    def extract(image: np.ndarray) -> np.ndarray:
        pixels = _pixels(image, settings.scale, stride, IMAGENET_MEAN, IMAGENET_STD).to(device)
        maps = model(pixels).feature_maps
        return _joined([maps[stage] for stage in settings.stages])

    return extract


def _clip(settings: FeatureSettings, device: str) -> Extractor:
    name: str = settings.model
    try:
        name, where = pretrained(name)
        config: Any = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False, **where)
        patch = int(getattr(config, "vision_config", config).patch_size)
        model: Any = load_complete_model(transformers.CLIPVisionModel, name, dtype=torch.float32, **where)
    except UNLOADABLE as error:
        raise CheckpointError(f"refinement.features.model: {name}: {reason(error)}") from None
    model.eval().to(device)

    @torch.inference_mode()
    def extract(image: np.ndarray) -> np.ndarray:
        pixels = _pixels(image, settings.scale, patch, CLIP_MEAN, CLIP_STD).to(device)
        height, width = (side // patch for side in pixels.shape[-2:])
        tokens = model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
        return _joined([tokens.transpose(1, 2).reshape(1, -1, height, width)])

    return extract


def _segmenter(settings: FeatureSettings, device: str) -> Extractor:
    model: Any = load_pretrained(transformers.Mask2FormerForUniversalSegmentation, settings.model).eval().to(device)

    @torch.inference_mode()
    def extract(image: np.ndarray) -> np.ndarray:
        pixels = _pixels(image, settings.scale, STRIDE, IMAGENET_MEAN, IMAGENET_STD).to(device)
        output = model(pixel_values=pixels)
        classes = class_probabilities(output.class_queries_logits[0])
        masks = output.masks_queries_logits[0].float().sigmoid()
        return torch.einsum("qc,qhw->hwc", classes, masks).cpu().numpy()

    return extract


def _diffusion(settings: FeatureSettings, device: str) -> Extractor:
    from instsynth_dagster.refinement.diffusion_features import DiffusionFeatures

    return DiffusionFeatures(settings, device)


def _pixels(image: np.ndarray, scale: float, stride: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Normalised float32 (1, 3, h, w): the image scaled, its sides rounded to multiples of `stride`."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    size = [max(stride, round(side * scale / stride) * stride) for side in image.shape[:2]]
    if size != list(image.shape[:2]):
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True).clamp(0, 1)
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _joined(maps: list[Tensor]) -> np.ndarray:
    """float32 (h, w, D) of maps (1, C, h, w), at the size of the first."""
    size = maps[0].shape[-2:]
    found = [F.interpolate(F.normalize(m.float(), dim=1), size=size, mode="bilinear") for m in maps]
    return torch.cat(found, dim=1)[0].permute(1, 2, 0).cpu().numpy()


_KINDS = {"backbone": _backbone, "clip": _clip, "diffusion": _diffusion, "segmenter": _segmenter}
