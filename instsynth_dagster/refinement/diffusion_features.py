"""Features of a frozen diffusion model, for prototypes and for heads on frozen features."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from instsynth_dagster.models.unet_taps import UNetTaps, load_parts
from instsynth_dagster.settings import FeatureSettings


class DiffusionFeatures:
    """An `Extractor` around a Stable Diffusion folder or hub id, with a 4-channel UNet or a 9-channel inpainting one.

    `stages` are up blocks, 0 the coarsest.

    Raises:
        CheckpointError: the folder or id cannot be loaded.
        SettingsError: a stage that the UNet does not have.
    """

    def __init__(self, settings: FeatureSettings, device: str) -> None:
        parts = load_parts(settings.model, settings.caption, key="refinement.features.model")
        self._taps = UNetTaps(parts, settings.stages, settings.timestep).eval().to(device)
        self._scale, self._device = settings.scale, device

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Features of an image, see `Extractor`."""
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
        stride = self._taps.coarsest
        size = [max(1, round(side * self._scale / stride)) * stride for side in image.shape[:2]]
        maps = self._taps(F.interpolate(pixels, size=size, mode="bilinear", antialias=True).to(self._device))
        finest = max((m.shape[-2:] for m in maps), key=lambda shape: shape[0] * shape[1])
        joined = [F.interpolate(F.normalize(m.float(), dim=1), size=finest, mode="bilinear") for m in maps]
        return torch.cat(joined, dim=1)[0].permute(1, 2, 0).cpu().numpy()
