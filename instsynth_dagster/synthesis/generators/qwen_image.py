"""`qwen_image`: Qwen-Image, with true classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from instsynth_dagster.synthesis.generators.flow import FlowGenerator


class QwenImage(FlowGenerator):
    """A generator with Qwen-Image; prompts of different lengths are padded and masked."""

    LICENCE = "Apache-2.0"
    PIPELINE = "QwenImageInpaintPipeline"
    GUIDANCE = "true_cfg_scale"

    def _encode(self, prompt: str) -> tuple[Tensor, ...]:
        return (self._pipeline.encode_prompt(prompt, device=self._device)[0][0],)

    def _conditioning(self, prompts: Sequence[str]) -> dict[str, Any]:
        given = self._padded("prompt_embeds", prompts)
        if negatives := self._negatives(prompts):
            given |= self._padded("negative_prompt_embeds", negatives)
        return given

    def _padded(self, name: str, prompts: Sequence[str]) -> dict[str, Tensor]:
        tokens = [self._encoded(prompt)[0] for prompt in prompts]
        present = [torch.ones(len(text), dtype=torch.long, device=text.device) for text in tokens]
        return {
            name: pad_sequence(tokens, batch_first=True),
            f"{name}_mask": pad_sequence(present, batch_first=True),
        }
