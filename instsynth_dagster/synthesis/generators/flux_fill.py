"""`flux_fill`: FLUX.1 Fill, which reads mask and masked source as extra channels, and guidance as an embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from instsynth_dagster.synthesis.generators.flow import FlowGenerator


class FluxFill(FlowGenerator):
    """A generator with FLUX.1 Fill, a distilled model that takes no negative prompt."""

    LICENCE = "FLUX.1 [dev] Non-Commercial License"
    PIPELINE = "FluxFillPipeline"

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        embedding, pooled, _ = self._pipeline.encode_prompt(prompt, None, device=self._device)
        return embedding[0], pooled[0]

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        embedding, pooled = self._embed(prompts)
        return {"prompt_embeds": embedding, "pooled_prompt_embeds": pooled}

    def _extras(self, images: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
        """The mask pixel for pixel: this network reads all pixels of a latent cell."""
        return {"mask_image": torch.from_numpy(masks)[:, None].float()}
