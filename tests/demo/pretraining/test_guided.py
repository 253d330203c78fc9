from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pandas as pd
import pytest
import torch

from instsynth_dagster.demo.pretraining import inpainting
from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.demo.pretraining.guided import GuidedCrops, fresh_controlnet
from instsynth_dagster.demo.pretraining.inpainting import load_unet
from instsynth_dagster.synthesis.generators.conditions import soft_edges

CHECKPOINTS = Path(__file__).parents[3] / "checkpoints"


def check_start(unet: diffusers.UNet2DConditionModel) -> None:
    unet.eval()
    controlnet = fresh_controlnet(unet).eval()
    torch.manual_seed(0)
    latents, steps, hidden = torch.randn(1, 4, 12, 12), torch.tensor([500]), torch.randn(1, 4, 128)
    inputs = torch.cat([latents, torch.randn(1, 5, 12, 12)], dim=1)
    with torch.no_grad():
        down, middle = controlnet(latents, steps, hidden, torch.rand(1, 3, 48, 48), return_dict=False)
        assert not any(part.any() for part in (*down, middle))
        guided = unet(
            inputs, steps, hidden, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample
        torch.testing.assert_close(guided, unet(inputs, steps, hidden).sample)
    for name, value in controlnet.named_parameters():
        if not name.startswith(("controlnet_", "conv_in")):
            assert torch.equal(value, unet.state_dict()[name])


@pytest.mark.slow
def test_it_begins_as_a_copy_that_changes_nothing():
    check_start(diffusers.UNet2DConditionModel(sample_size=12, **inpainting.ARCHITECTURE))
    check_start(load_unet(CHECKPOINTS / "mini-sd-inpaint"))


def test_edges_are_those_of_the_crop_or_of_its_mirror_image():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    masks = np.zeros((2, 48, 48), bool)
    masks[:, 5:40, 10:44] = True
    corpora = {48: Corpus(images, masks, pd.DataFrame({"number": [0, 1]}))}
    batch = {"latents": torch.zeros(3, 4, 12, 12), "index": torch.tensor([1, 0, 3])}
    edges = GuidedCrops(corpora, lambda number: batch)(0)["edges"]
    assert edges.shape == (3, 3, 48, 48)
    own = soft_edges(images[1], masks[1])
    np.testing.assert_array_equal(np.rint(edges[0, 0].numpy() * 255), own)
    np.testing.assert_array_equal(edges[2].numpy(), edges[0].numpy()[..., ::-1])
    assert (edges[1] != edges[0]).any()
