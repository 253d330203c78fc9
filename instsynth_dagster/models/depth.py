"""A depth estimation model of transformers, with output as ControlNets for depth expect it: near is bright."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.models.sources import load_complete_model, pretrained

_RELATIVE = ("depth_anything", "dpt")
"""Model types that give inverse depth; others give metres, and near would be dark."""


class DepthEstimator:
    """Relative inverse depth of single images, by a folder or hub id (DPT, Depth Anything).

    Raises:
        CheckpointError: it cannot be loaded, or gives metric depth; one line that begins with `key`.
    """

    def __init__(self, model: str | Path, device: str, *, key: str) -> None:
        try:
            name, where = pretrained(model)
            with quiet_transformers():
                loaded = load_complete_model(
                    transformers.AutoModelForDepthEstimation, name, dtype=torch.float32, **where
                )
                self._processor = transformers.AutoImageProcessor.from_pretrained(
                    name, **where, trust_remote_code=False
                )
        except Exception as error:  # the library raises nearly any error on damaged files
            raise CheckpointError(f"{key}: {model} cannot be loaded: {reason(error)}") from None
        config = loaded.config
        if config.model_type not in _RELATIVE or getattr(config, "depth_estimation_type", "relative") != "relative":
            raise CheckpointError(
                f"{key}: {model} ({config.model_type}) does not give relative inverse depth; "
                "name a DPT or a relative Depth Anything"
            )
        self.model, self._device = loaded.eval().to(device), device

    @torch.inference_mode()
    def map(self, image: np.ndarray) -> Tensor:
        """Depth map float (S, S) in 0..1 of a uint8 (S, S, 3) image, nearest 1; one image at a time, so that no result
        depends on others.
        """
        pixels = self._processor(images=[image], return_tensors="pt")["pixel_values"].to(self._device)
        depth = self.model(pixel_values=pixels).predicted_depth[:, None].float()
        depth = F.interpolate(depth, image.shape[:2], mode="bilinear", align_corners=False)[0, 0].cpu()
        low, high = depth.aminmax()
        return (depth - low) / (high - low) if high > low else torch.zeros_like(depth)
