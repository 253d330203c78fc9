"""Loss curves: what they hold does not depend on how often a training is written down."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.segmenters.training.loop import mean_curve
from tests.segmenters.test_mask2former import fit
from tests.segmenters.toy import tiny


def history(steps: int) -> pd.DataFrame:
    losses = np.random.default_rng(0).random(steps).astype(np.float32)
    return pd.DataFrame({"step": np.arange(1, steps + 1), "loss": losses.astype(float), "learning_rate": 1.0 / steps})


@pytest.mark.parametrize(("steps", "ends"), [(4, [4]), (20, [10, 20]), (25, [10, 20, 25])])
def test_a_point_is_the_mean_of_ten_steps_or_of_what_is_left(steps, ends):
    given = history(steps)
    curve = mean_curve(given)
    assert curve["step"].tolist() == ends
    first = [0, *ends[:-1]]
    means = [given["loss"][begin:end].mean() for begin, end in zip(first, ends, strict=True)]
    np.testing.assert_allclose(curve["loss"], means, rtol=1e-6)
    assert curve.columns.tolist() == ["step", "loss", "learning_rate"]


@pytest.mark.slow
def test_the_interval_of_checkpoints_changes_no_row(tmp_path):
    curves = [fit(tmp_path / str(every), tiny(steps=12, checkpoint_every=every)).curve for every in (3, 5, 12)]
    assert curves[0]["step"].tolist() == [10, 12]
    for other in curves[1:]:
        pd.testing.assert_frame_equal(curves[0], other, check_exact=True)
