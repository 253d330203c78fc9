"""Loss curves of trained segmenters."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from instsynth_dagster.graph import arm_and_seed
from instsynth_dagster.store import Store


def loss_curves(store: Store, partitions: Sequence[str]) -> pd.DataFrame:
    """Curves of the partitions `<run>|<segmenter>` of `trained_segmenters`: segmenter, arm, seed, step, loss."""
    curves = []
    for key in partitions:
        run, segmenter = key.split("|")
        arm, seed = arm_and_seed(run)
        curve = store.read("trained_segmenters", key, ["step", "loss"])
        curves.append(curve.assign(segmenter=segmenter, arm=arm, seed=seed))
    return pd.concat(curves, ignore_index=True)
