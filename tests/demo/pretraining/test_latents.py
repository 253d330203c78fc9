"""Holes at latent size."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from instsynth_dagster.demo.pretraining.latents import SCALE, touched_cells


@given(st.integers(0, 2**31), st.integers(0, 30))
def test_no_hole_is_lost_at_latent_size(seed, count):
    rng = np.random.default_rng(seed)
    holes = np.zeros((2, 16, 24), bool)
    holes[rng.integers(0, 2, count), rng.integers(0, 16, count), rng.integers(0, 24, count)] = True
    pooled = F.max_pool2d(torch.from_numpy(holes)[:, None].float(), SCALE)[:, 0] > 0
    np.testing.assert_array_equal(touched_cells(holes, SCALE), pooled.numpy())
