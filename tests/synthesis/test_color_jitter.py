import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from instsynth_dagster.synthesis.color_jitter import jitter_colors

MASK = np.zeros((8, 8), bool)
MASK[2:6, 2:6] = True


@given(arrays.arrays(np.uint8, (8, 8, 3)), st.integers(0, 2**63 - 1))
def test_only_the_instance_changes_and_the_seed_decides(crop, seed):
    jittered = jitter_colors(crop, MASK, seed)
    np.testing.assert_array_equal(jittered[~MASK], crop[~MASK])
    np.testing.assert_array_equal(jittered, jitter_colors(crop, MASK, seed))


def test_even_a_grey_instance_gets_colours_and_every_hue_comes_up():
    grey = np.full((8, 8, 3), 120, np.uint8)
    red = np.full((8, 8, 3), (200, 30, 30), np.uint8)
    tints = np.array([jitter_colors(grey, MASK, seed)[3, 3] for seed in range(50)], int)
    assert (np.ptp(tints, axis=1) > 20).mean() > 0.7
    hues = {int(jitter_colors(red, MASK, seed)[3, 3].argmax()) for seed in range(50)}
    assert hues == {0, 1, 2}
