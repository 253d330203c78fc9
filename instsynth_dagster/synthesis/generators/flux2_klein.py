"""`flux2_klein`: FLUX.2 klein, four steps when distilled; the source is also given as a reference image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from instsynth_dagster.synthesis.generators.flow import FlowGenerator


class Flux2Klein(FlowGenerator):
    """A generator with FLUX.2 klein; guidance and negative prompt have an effect on the undistilled base only."""

    LICENCE = "Apache-2.0 (4B); FLUX Non-Commercial License (9B)"
    PIPELINE = "Flux2KleinInpaintPipeline"
    MASK_CELL = 2

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        return (self._pipeline.encode_prompt(prompt, device=self._device)[0][0],)

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        (embedding,) = self._embed(prompts)
        given = {"prompt_embeds": embedding}
        if negatives := self._negatives(prompts):
            (given["negative_prompt_embeds"],) = self._embed(negatives)
        return given
