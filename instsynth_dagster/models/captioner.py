"""An image captioning model of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.models.sources import load_complete_model, pretrained


class Captioner:
    """Captions of single images, by a folder or hub id of a model that needs no text prompt (BLIP, GIT).

    Raises:
        CheckpointError: it cannot be loaded.
    """

    def __init__(self, model: str | Path, max_tokens: int, device: str = "cpu") -> None:
        """The model on a device; `max_tokens` is the greatest length of a caption."""
        try:
            name, where = pretrained(model)
            with quiet_transformers():
                self._model: Any = load_complete_model(
                    transformers.AutoModelForImageTextToText, name, dtype=torch.float32, **where
                )
                self._processor: Any = transformers.AutoProcessor.from_pretrained(
                    name, **where, trust_remote_code=False
                )
        except Exception as error:  # the library raises nearly any error on damaged files
            raise CheckpointError(f"captions.model: {model} cannot be loaded: {reason(error)}") from None
        self._model.eval().to(device)
        self._max_tokens, self._device = max_tokens, device

    @torch.inference_mode()
    def caption(self, image: np.ndarray) -> str:
        """One line for a uint8 (H, W, 3) image, by greedy decoding: deterministic for the image."""
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"].to(self._device)
        tokens = self._model.generate(pixel_values=pixels, max_new_tokens=self._max_tokens, do_sample=False)
        text = self._processor.batch_decode(tokens, skip_special_tokens=True)[0]
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
