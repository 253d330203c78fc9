"""Words for the light of a frame, on the demo city's own weather and on frames that are darkened."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.demo.city import render_scene, scenery
from instsynth_dagster.synthesis.lighting import DAY, DIM, EVENING, FOG, NIGHT, SUN, lighting_words


@pytest.fixture(scope="module")
def scenes() -> list[tuple[str, np.ndarray]]:
    """Weather and picture of a few scenes."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = []

        def draw(rng, draw_light=scenery.draw_light):
            drawn.append(draw_light(rng))
            return drawn[-1]

        patch.setattr(scenery, "draw_light", draw)
        pictures = [render_scene(seed, 256, 128).image for seed in range(12)]
    return [(light.name, picture) for light, picture in zip(drawn, pictures, strict=True)]


@pytest.mark.slow
def test_an_evening_is_told_from_other_weather(scenes):
    assert {name for name, _ in scenes} >= {"evening", "noon", "overcast"}
    for name, picture in scenes:
        assert (lighting_words(picture) == EVENING) == (name == "evening")


@pytest.mark.slow
def test_a_darkened_frame_is_dim_and_then_night(scenes):
    for _, picture in scenes:
        assert lighting_words((0.45 * picture).astype(np.uint8)) == DIM
        assert lighting_words((0.2 * picture).astype(np.uint8)) == NIGHT


def test_veiled_hard_and_plain_light():
    ramp = np.tile(np.linspace(-1, 1, 64), (32, 1))[..., None] * np.ones(3)
    assert lighting_words((170 + 20 * ramp).astype(np.uint8)) == FOG
    assert lighting_words((128 + 127 * ramp).astype(np.uint8)) == SUN
    assert lighting_words((90 + 60 * ramp).astype(np.uint8)) == DAY


@given(st.integers(0, 255), st.integers(1, 20), st.integers(1, 20))
def test_every_frame_has_words(level, height, width):
    assert lighting_words(np.full((height, width, 3), level, np.uint8))
