"""Loss curves of trained segmenters."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.graph import TrainingRun


def loss_curves(store: Store, partitions: Sequence[str]) -> pd.DataFrame:
    """Curves of the partitions `<run>|<segmenter>` of `trained_segmenters`: segmenter, arm, percent, seed,
    step, loss.
    """
    curves = []
    for key in partitions:
        run, segmenter = key.split("|")
        training = TrainingRun.parse(run)
        curve = store.read("trained_segmenters", key, ["step", "loss"])
        about = {"arm": training.data.arm, "percent": training.data.percent, "seed": training.seed}
        curves.append(curve.assign(segmenter=segmenter, **about))
    return pd.concat(curves, ignore_index=True)
