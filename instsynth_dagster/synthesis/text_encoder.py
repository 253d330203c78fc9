"""The text encoders of a diffusers checkpoint, as one embedding for each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn import functional as F

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.models.sources import load_complete_model, load_complete_tokenizer, pipeline_index, pretrained
from instsynth_dagster.settings import GeneratorSettings

_KINDS = ("CLIPTextModel", "CLIPTextModelWithProjection")
_PARTS = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
_BATCH = 64


class TextEncoder:
    """Pooled features of the CLIP text encoders of a generator's checkpoint, concatenated, at unit length.

    Raises:
        CheckpointError: the checkpoint cannot be read or has no CLIP text encoder.
    """

    def __init__(self, name: str, settings: GeneratorSettings, device: str = "cpu") -> None:
        self._encoders: list[tuple[Any, transformers.CLIPTokenizer]] = []
        problems = []
        for source in (settings.model, *settings.mirrors):
            try:
                self._encoders = _load(source, device)
                break
            except Exception as error:  # damaged files make the library raise nearly anything
                problems.append(f"{source}: {reason(error)}")
        if not self._encoders:
            tried = "; ".join(problems) or f"{settings.model} has none"
            raise CheckpointError(f"prompt_bank.encoder: no CLIP text encoder in generators.{name}.model: {tried}")

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings float32 (N, D); a dot product is a cosine."""
        batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
        return np.concatenate([self._embed(list(batch)) for batch in batches])

    def _embed(self, texts: list[str]) -> np.ndarray:
        pooled = []
        for encoder, tokenizer in self._encoders:
            tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
            output = encoder(tokens["input_ids"].to(encoder.device))
            pooled.append(output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output)
        return F.normalize(torch.cat(pooled, dim=1).float(), dim=1).cpu().numpy()


def _load(source: str, device: str) -> list[tuple[Any, transformers.CLIPTokenizer]]:
    name, where = pretrained(source, parts=_PARTS)
    index = pipeline_index(source)
    encoders = []
    with quiet_transformers():
        for part in ("text_encoder", "text_encoder_2"):
            kind = (index.get(part) or [None, ""])[1]
            if kind in _KINDS:
                encoder = load_complete_model(
                    getattr(transformers, kind), name, subfolder=part, dtype=torch.float32, **where
                )
                tokenizer = load_complete_tokenizer(
                    transformers.CLIPTokenizer, name, subfolder=part.replace("text_encoder", "tokenizer"), **where
                )
                encoders.append((encoder.eval().to(device), tokenizer))
    return encoders
