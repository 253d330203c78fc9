"""Structure from the source: what the ControlNet is shown and what its settings do; the generator contract is in
test_generators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.generators.conditions import soft_edges
from tests.tiny_pipelines import save_tiny_guided

SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("guided")
    save_tiny_guided(folder)
    return folder


@pytest.fixture(scope="module")
def depth_model(tmp_path_factory) -> Path:
    return save_depth(tmp_path_factory.mktemp("depth"), "relative")


def save_depth(folder: Path, estimation: str) -> Path:
    backbone = transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2"],
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        reassemble_factors=[1, 0.5],
        neck_hidden_sizes=[8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=estimation,
        max_depth=10 if estimation == "metric" else 1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def settings(folder: Path, **changes) -> GeneratorSettings:
    values = {"kind": "controlnet_inpaint", "model": str(folder / "model"), "controlnet": str(folder / "controlnet")}
    values |= {"size": SIZE, "steps": 4, "guidance": 2.0, "batch_size": 2}
    return GeneratorSettings.model_validate(values | changes)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two images of stripes on grey, one lying and one standing, and the same mask."""
    images = np.full((2, SIZE, SIZE, 3), 120, np.uint8)
    images[0, 12:16], images[1, :, 12:16] = 240, 240
    masks = np.zeros((2, SIZE, SIZE), bool)
    masks[:, 6:26, 4:28] = True
    return images, masks


def painted(made: GeneratorSettings) -> np.ndarray:
    images, masks = scene()
    # the second has the source of the first outside its mask, so that only what the ControlNet sees differs
    images[1][~masks[1]] = images[0][~masks[0]]
    generator = load_generator("mine", made, "cpu")
    return generator.fill(images, masks, ["a red car"] * 2, ["car"] * 2, [1, 1])


@given(st.integers(0, 2**31), st.integers(3, 40), st.integers(3, 40))
def test_edges_lie_inside_the_mask_and_have_its_outline(seed, height, width):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = rng.random((height, width)) < rng.random()
    edges = soft_edges(image, mask)
    assert edges.shape == mask.shape
    assert not edges[~mask].any()
    padded = np.pad(mask, 1, mode="edge")
    around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
    assert (edges[mask & ~np.logical_and.reduce(around)] == 255).all()


@pytest.mark.slow
def test_strong_edges_are_brighter_than_weak_ones_and_light_does_not_matter():
    image = np.full((64, 64, 3), 100, np.uint8)
    image[:, 20:] = 112
    image[:, 44:] = 220
    mask = np.ones((64, 64), bool)
    edges = soft_edges(image, mask)
    weak, strong = edges[32, 16:24].max(), edges[32, 40:48].max()
    assert 0 < weak < strong == 255
    np.testing.assert_array_equal(soft_edges(image // 2, mask) > 0, edges > 0)


@pytest.mark.slow
def test_what_the_controlnet_sees_of_the_source_reaches_the_picture(folder):
    guided, off = painted(settings(folder)), painted(settings(folder, control_strength=0))
    assert (guided[0] != guided[1]).any()
    np.testing.assert_array_equal(off[0], off[1])
    half, short = painted(settings(folder, control_strength=0.5)), painted(settings(folder, control_end=0.5))
    assert (half != guided).any()
    assert (short != guided).any()


@pytest.mark.slow
def test_depth_by_a_model_reaches_the_picture_and_the_digest(folder, depth_model):
    made = settings(folder, condition="depth", depth_model=str(depth_model))
    depth, edges = load_generator("mine", made, "cpu"), load_generator("mine", settings(folder), "cpu")
    assert depth.weights_digest != edges.weights_digest
    images, masks = scene()
    arguments = (["a red car"] * 2, ["car"] * 2, [1, 1])
    together = depth.fill(images, masks, *arguments)
    assert (together != edges.fill(images, masks, *arguments)).any()
    shown = depth._condition(images, masks)
    assert shown.shape == (2, SIZE, SIZE)
    assert shown.amin() == 0
    assert shown.amax() == 1
    alone = depth._condition(images[1:], masks[1:])
    assert torch.equal(alone[0], shown[1])


@pytest.mark.slow
def test_what_does_not_fit_is_named_in_one_line(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"generators\.mine\.controlnet: .*nowhere"):
        load_generator("mine", settings(folder, controlnet=str(tmp_path / "nowhere")), "cpu")
    save_tiny_guided(tmp_path / "xl", xl=True)
    with pytest.raises(CheckpointError, match=r"controlnet: made for another model: its cross_attention_dim is 32"):
        load_generator("mine", settings(folder, controlnet=str(tmp_path / "xl/controlnet")), "cpu")
    metric = save_depth(tmp_path / "metric", "metric")
    with pytest.raises(CheckpointError, match=r"generators\.mine\.depth_model: .* relative inverse depth"):
        load_generator("mine", settings(folder, condition="depth", depth_model=str(metric)), "cpu")
    with pytest.raises(ValueError, match="depth_model is given exactly where condition is depth"):
        settings(folder, condition="depth")
    with pytest.raises(ValueError, match="depth_model is given exactly where condition is depth"):
        settings(folder, depth_model="x")
