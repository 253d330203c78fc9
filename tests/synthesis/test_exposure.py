"""Dim crops brightened for a generator, with a generator that shows what it was given."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.generators.base import Capabilities
from instsynth_dagster.synthesis.generators.exposure import NormalisedExposure, exposure_gain
from tests.tiny_pipelines import save_tiny_inpainting

WHITE = 200


class FakePainter:
    """Paints the mask in the white of a well-lit scene, whatever it is shown."""

    capabilities = Capabilities(mask_shaped=True, native_size=16, soft_mask=False, licence="none")
    weights_digest, scheduler = "0" * 64, "none"

    def prepare(self, prompts):
        self.prepared = list(prompts)

    def fill(self, images, masks, prompts, subjects, seeds):
        self.shown = images
        return np.where(masks[..., None], np.uint8(WHITE), images)


def scene(levels: list[int]) -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([np.full((16, 16, 3), level, np.uint8) for level in levels])
    masks = np.zeros((len(levels), 16, 16), bool)
    masks[:, 4:12, 4:12] = True
    return images, masks


def test_a_painting_is_as_dim_as_its_surroundings_and_by_day_as_it_was():
    inner = FakePainter()
    images, masks = scene([40, 20, 130])
    images[masks] = 5  # black instances
    painted = NormalisedExposure(inner).fill(images, masks, [""] * 3, ["car"] * 3, [0, 1, 2])
    assert inner.shown[:, 0, 0, 0].tolist() == [100, 80, 130]
    assert painted[:, 8, 8, 0].tolist() == [80, 50, WHITE]
    assert np.abs(painted[:, 0, 0, 0].astype(int) - [40, 20, 130]).max() <= 1


@given(st.integers(0, 255), st.integers(0, 255), st.booleans())
def test_a_gain_brightens_only_and_does_not_look_at_the_instance(level, instance, everything):
    images, masks = scene([level])
    plain = exposure_gain(images[0], masks[0])
    images[masks] = instance
    assert 1 <= plain <= 4
    assert exposure_gain(images[0], masks[0]) == plain
    assert 1 <= exposure_gain(images[0], masks[0] | everything) <= 4


def test_it_is_a_setting_of_any_generator(tmp_path):
    model = save_tiny_inpainting(tmp_path)
    values = {"kind": "diffinpainting", "model": str(model), "size": 16, "steps": 2, "guidance": 2.0}
    plain = load_generator("g", GeneratorSettings.model_validate(values), "cpu")
    fitted = load_generator("g", GeneratorSettings.model_validate(values | {"normalise_exposure": True}), "cpu")
    assert (fitted.weights_digest, fitted.scheduler) == (plain.weights_digest, plain.scheduler)
    assert fitted.capabilities == plain.capabilities
    images, masks = scene([150, 60])
    fitted.prepare(["a car"])
    ours, theirs = (one.fill(images, masks, ["a car"] * 2, ["car"] * 2, [1, 2]) for one in (fitted, plain))
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert (ours[1] != theirs[1]).any()
