"""A CLIP checkpoint as a judge: features of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn import functional as F

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.models.digests import weights_digest
from instsynth_dagster.models.feature_cache import FeatureCache
from instsynth_dagster.models.quiet import quiet_transformers
from instsynth_dagster.models.sources import load_complete_model, load_complete_tokenizer, pretrained

_BATCH = 64


class Clip:
    """Features of a CLIP folder or hub id, at unit length; a dot product is a cosine.

    Raises:
        CheckpointError: it cannot be loaded.
    """

    def __init__(self, model: str | Path, device: str = "cpu", cache: FeatureCache | None = None) -> None:
        """The model on a device; `cache` keeps features of images beyond this process."""
        try:
            name, where = pretrained(model)
            with quiet_transformers():
                self._clip = load_complete_model(transformers.CLIPModel, name, dtype=torch.float32, **where)
                self._tokenizer = load_complete_tokenizer(transformers.CLIPTokenizer, name, **where)
                self._processor = transformers.CLIPImageProcessor.from_pretrained(name, **where)
        except Exception as error:  # the library raises nearly any error on damaged files
            raise CheckpointError(f"judge.clip: {model} cannot be loaded: {error or type(error).__name__}") from None
        self._clip.eval().to(device)
        self._device, self._cache = device, cache
        self._digest = weights_digest({"clip": self._clip}) if cache else ""
        self._texts: dict[str, np.ndarray] = {}

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Features float32 (N, D) of uint8 (H, W, 3) images of any size."""
        if not images:
            return np.empty((0, int(self._clip.config.projection_dim or 0)), np.float32)
        if self._cache:
            return self._cache.features(self._digest, images, self._extract)
        return np.concatenate([self._extract(images[at : at + _BATCH]) for at in range(0, len(images), _BATCH)])

    @torch.inference_mode()
    def _extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"]
        output = self._clip.get_image_features(pixel_values=pixels.to(self._device)).pooler_output
        return F.normalize(output, dim=1).cpu().numpy()

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features float32 (N, D); each distinct text is encoded once."""
        for text in texts:
            if text not in self._texts:
                tokens = self._tokenizer(text, truncation=True, return_tensors="pt").to(self._device)
                output = self._clip.get_text_features(**tokens).pooler_output
                self._texts[text] = F.normalize(output, dim=1)[0].cpu().numpy()
        return np.stack([self._texts[text] for text in texts])

    def class_scores(self, features: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Cosines (N, C) of image features (N, D) with "a photo of a <class>"."""
        return features @ self.texts([f"a photo of a {name}" for name in classes]).T
