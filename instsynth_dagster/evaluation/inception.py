"""The Inception network that FID and KID are published with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.feature_cache import FeatureCache
from instsynth_dagster.images import resize_image
from instsynth_dagster.weights import weights_digest

_LAYER = "2048"
_SIDE = 299


class Inception:
    """2048 pooled features of torch-fidelity's Inception v3 (TensorFlow's weights of 2015).

    Raises:
        CheckpointError: the weights can be neither read nor downloaded.
    """

    def __init__(self, weights: Path | None, cache: FeatureCache, device: str = "cpu") -> None:
        """`weights`: the published .pth on disk; None downloads it once."""
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        path = None if weights is None else str(weights)
        try:
            # torch-fidelity asks torch.load to unpickle anything; this overrules it
            with mock.patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}):
                self._network = FeatureExtractorInceptionV3("inception", [_LAYER], path, verbose=False)
        except Exception as error:
            where = weights or "the published weights"
            hint = "download them by hand and name them in judge.inception_weights, or set judge.fid_features: clip"
            raise CheckpointError(
                f"judge.fid_features: {where} cannot be loaded ({' '.join(str(error).split())[:160]}); {hint}"
            ) from None
        self._network.to(device)
        self._device, self._cache = device, cache
        self._digest = weights_digest({"inception": self._network})

    def images(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """float32 (N, 2048) of uint8 (H, W, 3) images of any size."""
        return self._cache.features(self._digest, images, self._extract)

    @torch.inference_mode()
    def _extract(self, images: list[np.ndarray]) -> np.ndarray:
        pixels = np.stack([resize_image(image, (_SIDE, _SIDE)) for image in images])
        features = self._network(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self._device))
        return features[0].float().cpu().numpy()
