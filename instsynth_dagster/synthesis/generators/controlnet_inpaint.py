"""`controlnet_inpaint`: Stable Diffusion 1, 2 or XL, guided by the structure of the source (Zhang et al. 2023).

The pipelines are diffusers' own, with a UNet of 9 channels (inpainting) or of 4, whose result is blended with the
source. A repainted instance keeps the edges or the depth of the original: wheels stay where wheels were.
"""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.depth import DepthEstimator
from instsynth_dagster.models.sources import load_complete_model, pipeline_index, pretrained
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators.conditions import soft_edges
from instsynth_dagster.synthesis.generators.fit import wrong_controlnet
from instsynth_dagster.synthesis.generators.kinds import ControlNetInpaintSettings
from instsynth_dagster.synthesis.generators.stable_diffusion import StableDiffusionGenerator


class ControlNetInpaint(StableDiffusionGenerator):
    """A generator with Stable Diffusion and a ControlNet."""

    def __init__(self, name: str, settings: GeneratorSettings, device: str) -> None:
        assert isinstance(settings, ControlNetInpaintSettings)
        self._guided = settings
        super().__init__(name, settings, device, _guided_pipeline)
        self._depth = None
        if settings.depth_model:
            self._depth = DepthEstimator(settings.depth_model, device, key=f"generators.{name}.depth_model")
            self._beside["depth_model"] = self._depth.model

    def _further_parts(self, name: str) -> dict[str, Any]:
        source, dtype = self._guided.controlnet, getattr(torch, self._guided.dtype)
        try:
            folder, where = pretrained(source)
            return {"controlnet": load_complete_model(diffusers.ControlNetModel, folder, torch_dtype=dtype, **where)}
        except Exception as error:  # damaged files make the library raise nearly anything
            raise CheckpointError(f"generators.{name}.controlnet: {source} cannot be loaded: {reason(error)}") from None

    def _check(self, name: str) -> None:
        super()._check(name)
        parts = self._pipeline.unet.config, self._pipeline.controlnet.config
        if line := wrong_controlnet(name, *parts):
            raise CheckpointError(line)

    def _extras(self, images: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
        return {
            # `_WholeCells` widens the latent mask to whole cells; the source is hidden only by the true mask
            "mask_image": torch.from_numpy(masks)[:, None].float(),
            "control_image": self._condition(images, masks)[:, None].repeat(1, 3, 1, 1),
            "controlnet_conditioning_scale": self._guided.control_strength,
            "control_guidance_end": self._guided.control_end,
        }

    def _condition(self, images: np.ndarray, masks: np.ndarray) -> Tensor:
        """Conditioning images float (N, S, S) in 0..1."""
        if self._depth is not None:
            return torch.stack([self._depth.map(image) for image in images])
        edges = [soft_edges(image, mask) for image, mask in zip(images, masks, strict=True)]
        return torch.from_numpy(np.stack(edges)).float() / 255


class _WholeCells:
    """A pipeline whose latent mask contains every cell that holds a pixel of the mask; diffusers samples one pixel of
    each cell.
    """

    vae_scale_factor: int

    def prepare_mask_latents(self, mask: Tensor, *rest: Any) -> Any:
        cells = F.interpolate(F.max_pool2d(mask, self.vae_scale_factor), mask.shape[2:])
        return super().prepare_mask_latents(cells, *rest)  # type: ignore[misc]


class _Inpaint(_WholeCells, diffusers.StableDiffusionControlNetInpaintPipeline):
    pass


class _InpaintXL(_WholeCells, diffusers.StableDiffusionXLControlNetInpaintPipeline):
    pass


def _guided_pipeline(source: str) -> Any:
    """The ControlNet pipeline for a checkpoint of Stable Diffusion 1, 2 or XL."""
    return _InpaintXL if "XL" in pipeline_index(source)["_class_name"] else _Inpaint
