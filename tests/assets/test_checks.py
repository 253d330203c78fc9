"""The warnings that stand on assets."""

from __future__ import annotations

import pandas as pd
import pytest

from assets.segmentation_scores import ap_sanity
from assets.training_sets import class_balance


@pytest.mark.parametrize(
    ("ap", "ap50", "passed"), [(0.2, 0.4, True), (0, 0, False), (0.97, 0.99, False), (0.5, 0.4, False)]
)
def test_scores_that_cannot_be_are_flagged(ap, ap50, passed):
    check = ap_sanity(ap, ap50)
    assert check.passed is passed
    assert not check.blocking


def instances(frames, windows=None):
    rows = {"frame": frames} | ({"window": windows} if windows else {})
    return pd.DataFrame.from_dict(rows, orient="index", columns=["instances_car", "instances_bus", "instances_train"])


def test_a_class_that_synthesis_forgot_is_flagged():
    frames = (10, 2, 0)
    assert class_balance(instances(frames)).passed
    assert class_balance(instances(frames, (10, 4, 0))).passed  # no real train: nothing to weigh
    assert not class_balance(instances(frames, (10, 0, 0))).passed
    drowned = class_balance(instances(frames, (20, 1, 0)))
    assert not drowned.passed
    assert drowned.description == "bus x1.50, car x3.00"
