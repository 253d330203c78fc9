"""The generator contract for the successors, each with a tiny real pipeline of its own classes."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.settings import GeneratorSettings, load_settings
from instsynth_dagster.synthesis.generators import load_generator
from tests.tiny_successors import TINY

SIZE = 32
PROMPTS = ["a red car", "a photo of a blue bus at night"]


def settings(kind: str, model: Path, **changes) -> GeneratorSettings:
    values = {"kind": kind, "model": str(model), "size": SIZE, "steps": 2, "guidance": 2.0, "batch_size": 2}
    return GeneratorSettings.model_validate(values | changes)


@pytest.fixture(scope="module", params=TINY)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind, tmp_path_factory) -> Path:
    return TINY[kind](tmp_path_factory.mktemp(kind))


@pytest.fixture(scope="module")
def generator(kind, model):
    return load_generator("mine", settings(kind, model), "cpu")


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two smooth images and their masks."""
    ramp = np.linspace(40, 200, SIZE, dtype=np.float32)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], 120.0), axis=-1).astype(np.uint8)
    masks = np.zeros((2, SIZE, SIZE), bool)
    masks[0, 8:24, 4:28] = True
    masks[1, 4:28, 12:24] = True
    return np.stack([image, image[::-1]]), masks


@pytest.mark.slow
def test_a_mask_is_filled_by_prompt_and_seed(generator, scene):
    images, masks = scene
    out = generator.fill(images, masks, PROMPTS, ["car", "bus"], [1, 2])
    assert out.shape == images.shape
    assert out.dtype == np.uint8
    before = torch.get_rng_state()
    again = generator.fill(images, masks, PROMPTS, ["car", "bus"], [1, 2])
    np.testing.assert_array_equal(out, again)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    np.testing.assert_array_equal(out, generator.fill(images, masks, PROMPTS, ["car", "bus"], [1, 2]))
    other = generator.fill(images, masks, PROMPTS, ["car", "bus"], [3, 2])
    assert (out[0][masks[0]] != other[0][masks[0]]).any()
    assert (out[0] != generator.fill(images, masks, PROMPTS[::-1], ["car", "bus"], [1, 2])[0]).any()


@pytest.mark.slow
def test_mask_guidance_and_negative_prompt_reach_the_model(kind, model, generator, scene):
    """Distilled FLUX Fill has no negative prompt; its guidance is an input of the network."""
    images, masks = scene
    arguments = (images, masks, PROMPTS, ["car", "bus"], [1, 2])
    out = generator.fill(*arguments)
    assert (out != generator.fill(images, masks[::-1].copy(), *arguments[2:])).any()
    for changes in ({"guidance": 6.0}, {"negative_prompt": "a blurred picture"}):
        other = load_generator("mine", settings(kind, model, **changes), "cpu").fill(*arguments)
        assert (out != other).any() or (kind == "flux_fill" and "negative_prompt" in changes)


@pytest.mark.slow
def test_the_thinnest_mask_is_painted_wherever_it_lies(generator, scene):
    """Where a latent mask is lost nothing is drawn, and pictures of two seeds are equal."""
    images, _ = scene
    for offset in range(0, 8, 2):
        masks = np.zeros((2, SIZE, SIZE), bool)
        masks[0, 4:28, 8 + offset] = masks[1, 9 + offset, 4:28] = True
        one, other = (generator.fill(images, masks, PROMPTS, ["car", "bus"], seeds) for seeds in ([1, 2], [3, 4]))
        assert ((one != other).any(axis=3)[masks]).mean() > 0.9


@pytest.mark.slow
def test_a_crop_does_not_depend_on_its_neighbour(generator, scene):
    """Within one grey level: prompts of two lengths are padded to the longer, and other shapes take other kernels."""
    images, masks = scene
    together = generator.fill(images, masks, PROMPTS, ["car", "bus"], [1, 2])
    for index in range(2):
        one = slice(index, index + 1)
        alone = generator.fill(images[one], masks[one], PROMPTS[one], ["car"], [1 + index])
        assert np.abs(together[index].astype(int) - alone[0]).max() <= 1


@pytest.mark.slow
def test_a_family_declares_its_licence_and_its_sizes(kind, model, generator):
    assert generator.capabilities.native_size == SIZE
    assert generator.capabilities.licence
    with pytest.raises(CheckpointError, match=r"generators\.mine\.size: .* multiples of \d+ pixels, got 30"):
        load_generator("mine", settings(kind, model, size=30), "cpu")


@pytest.mark.slow
def test_text_encoders_rest_outside_and_count_in_the_digest(kind, model, generator):
    assert generator._pipeline.text_encoder is None
    generator.prepare(["a new prompt"])
    assert generator._pipeline.text_encoder is None
    digest = load_generator("again", settings(kind, model), "cpu").weights_digest
    assert digest == generator.weights_digest


@pytest.mark.slow
def test_an_lcm_lora_is_fused_and_runs_in_few_steps(tmp_path, scene):
    from peft import LoraConfig, get_peft_model_state_dict

    model = TINY["sdxl_inpaint"](tmp_path)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(model)
    pipeline.unet.add_adapter(LoraConfig(r=2, init_lora_weights="gaussian", target_modules=["to_q", "to_v"]))
    state = get_peft_model_state_dict(pipeline.unet)
    torch.manual_seed(0)
    diffusers.StableDiffusionXLPipeline.save_lora_weights(
        tmp_path / "lora", unet_lora_layers={key: torch.randn_like(value) for key, value in state.items()}
    )
    images, masks = scene
    arguments = (images, masks, PROMPTS, ["car", "bus"], [1, 2])
    fast = settings("sdxl_inpaint", model, steps=4, guidance=1.0, scheduler="lcm")
    plain = load_generator("mine", fast, "cpu")
    distilled = load_generator("mine", fast.model_copy(update={"lora": str(tmp_path / "lora")}), "cpu")
    assert distilled.scheduler == "LCMScheduler"
    assert distilled.weights_digest != plain.weights_digest
    assert (distilled.fill(*arguments) != plain.fill(*arguments)).any()
    np.testing.assert_array_equal(distilled.fill(*arguments), distilled.fill(*arguments))
    with pytest.raises(CheckpointError, match=r"generators\.mine\.lora: .*nowhere"):
        load_generator("mine", fast.model_copy(update={"lora": str(tmp_path / "nowhere")}), "cpu")


def test_the_profile_of_successors_is_valid():
    generators = load_settings(Path("profiles/successors.yaml")).generators
    assert {made.kind for made in generators.values()} == set(TINY)
