"""`z_image`: Z-Image and Z-Image-Turbo (8 evaluations, without guidance)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from instsynth_dagster.synthesis.generators.flow import FlowGenerator


class ZImage(FlowGenerator):
    """A generator with Z-Image; its pipeline takes prompts of different lengths as a list."""

    LICENCE = "Apache-2.0"
    PIPELINE = "ZImageInpaintPipeline"

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        embeddings, _ = self._pipeline.encode_prompt(prompt, device=self._device, do_classifier_free_guidance=False)
        return (embeddings[0],)

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        given = {"prompt_embeds": [self._encoded(prompt)[0] for prompt in prompts]}
        if negatives := self._negatives(prompts):
            given["negative_prompt_embeds"] = [self._encoded(prompt)[0] for prompt in negatives]
        return given
