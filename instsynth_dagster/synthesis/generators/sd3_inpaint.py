"""`sd3_inpaint`: Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from instsynth_dagster.synthesis.generators.flow import FlowGenerator


class SD3Inpaint(FlowGenerator):
    """A generator with Stable Diffusion 3; a checkpoint without its T5 encoder works too."""

    LICENCE = "Stability AI Community License"
    PIPELINE = "StableDiffusion3InpaintPipeline"

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        embedding, _, pooled, _ = self._pipeline.encode_prompt(
            prompt, None, None, device=self._device, do_classifier_free_guidance=False
        )
        return embedding[0], pooled[0]

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        embedding, pooled = self._embed(prompts)
        given = {"prompt_embeds": embedding, "pooled_prompt_embeds": pooled}
        if negatives := self._negatives(prompts):
            embedding, pooled = self._embed(negatives)
            given |= {"negative_prompt_embeds": embedding, "negative_pooled_prompt_embeds": pooled}
        return given
