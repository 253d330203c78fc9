"""The Inception network that FID and KID are published with."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from instsynth_dagster.data.images import resize_image
from instsynth_dagster.errors import CheckpointError, reason
from instsynth_dagster.models.digests import PIN, verified, weights_digest
from instsynth_dagster.models.feature_cache import FeatureCache

_LAYER = "2048"
_SIDE = 299
_PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""sha256 of torch-fidelity's weights-inception-2015-12-05-6726825d.pth."""


class Inception:
    """2048 pooled features of torch-fidelity's Inception v3 (TensorFlow's weights of 2015).

    Raises:
        CheckpointError: the weights can be neither read nor downloaded.
    """

    def __init__(self, weights: Path | None, cache: FeatureCache, device: str = "cpu") -> None:
        """The network on a device; `weights` is the published .pth on disk, or `<path>@sha256:<digest>`; None downloads
        it once.
        """
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        try:
            path = str(_published() if weights is None else verified(weights) or weights)
            # torch-fidelity would unpickle arbitrary objects; this overrides it
            with mock.patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}):
                self._network = FeatureExtractorInceptionV3("inception", [_LAYER], path, verbose=False)
        except Exception as error:
            where = weights or "the published weights"
            hint = "download them by hand and name them in judge.inception_weights, or set judge.fid_features: clip"
            raise CheckpointError(f"judge.fid_features: {where} cannot be loaded ({reason(error)}); {hint}") from None
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


def published_file() -> Path:
    """Path of the published weights in torch's cache, whether or not they exist."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    return Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/", 1)[1]


def _published() -> Path:
    """The published weights in torch's cache, downloaded where they are missing, with their digest checked."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    path = published_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=_PUBLISHED, progress=False)
    verified(f"{path}{PIN}{_PUBLISHED}")
    return path
