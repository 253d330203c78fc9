"""Extractors by name, each with the real class: a pyramid, a segmenter's backbone, DINOv2, CLIP."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.refinement.features import build_extractor
from instsynth_dagster.settings import FeatureSettings
from tests.segmenters.toy import TINY_RESNET
from tests.tiny_pipelines import save_tiny_clip

IMAGE = np.random.default_rng(0).integers(0, 256, (56, 84, 3), dtype=np.uint8)


def save_resnet(folder):
    torch.manual_seed(0)
    transformers.ResNetForImageClassification(transformers.ResNetConfig(**TINY_RESNET)).save_pretrained(folder)
    return folder


def save_dinov2(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("save", "kind", "stages", "grid", "depth"),
    [
        (save_resnet, "backbone", (0, 1), (14, 21), 8 + 16),
        (save_dinov2, "backbone", (3,), (4, 6), 16),
        (lambda folder: "checkpoints/mini-mask2former", "backbone", (1, 2), (7, 11), 64 + 128),
        (lambda folder: "checkpoints/mini-mask2former", "segmenter", (0,), (16, 24), 8),
    ],
)
def test_a_backbone_by_name(save, kind, stages, grid, depth, tmp_path) -> None:
    extract = build_extractor(FeatureSettings(kind=kind, model=str(save(tmp_path)), stages=stages), "cpu")
    found = extract(IMAGE)
    assert found.shape == (*grid, depth)
    assert found.dtype == np.float32
    assert np.array_equal(found, extract(IMAGE))
    assert not np.allclose(found, extract(255 - IMAGE), atol=1e-3)


def test_clip_patches(tmp_path) -> None:
    extract = build_extractor(FeatureSettings(kind="clip", model=str(save_tiny_clip(tmp_path))), "cpu")
    found = extract(IMAGE)
    assert found.ndim == 3
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-4)


@pytest.mark.slow
def test_what_a_diffusion_model_sees() -> None:
    def extract(**changes):
        settings = {"kind": "diffusion", "model": "checkpoints/mini-sd-inpaint", "stages": (0, 1)} | changes
        return build_extractor(FeatureSettings(**settings), "cpu")(IMAGE)

    found = extract()
    assert found.ndim == 3
    assert np.array_equal(found, extract())
    assert not np.allclose(found, extract(timestep=500), atol=1e-3)
    assert not np.allclose(found, extract(caption="a photo of a red car"), atol=1e-4)
    with pytest.raises(SettingsError, match="up blocks 0 to"):
        extract(stages=(9,))


def test_a_larger_image_has_a_finer_grid(tmp_path) -> None:
    model = str(save_resnet(tmp_path))
    coarse, fine = (
        build_extractor(FeatureSettings(model=model, stages=(0,), scale=scale), "cpu")(IMAGE) for scale in (1, 2)
    )
    assert fine.shape[:2] == (2 * coarse.shape[0], 2 * coarse.shape[1])


def test_what_is_wrong_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(SettingsError, match="has stages 0 to 3"):
        build_extractor(FeatureSettings(model=str(save_resnet(tmp_path)), stages=(4,)), "cpu")
    (tmp_path / "empty").mkdir()
    for kind in ("backbone", "clip", "diffusion", "segmenter"):
        with pytest.raises(CheckpointError, match="empty") as caught:
            build_extractor(FeatureSettings(kind=kind, model=str(tmp_path / "empty")), "cpu")
        assert "\n" not in str(caught.value)
