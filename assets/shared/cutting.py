"""The common part of assets that cut instances out of their frames."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pandas as pd

from assets.shared.pictures import PREVIEWED_CROPS, crops_preview
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.settings import SelectionSettings
from instsynth_dagster.synthesis.crops import cut_selected
from resources.dataset import Dataset


def cut_into(
    out: PartitionWriter, chosen: pd.DataFrame, frames: pd.DataFrame, dataset: Dataset, selection: SelectionSettings
) -> dict[str, Any]:
    """Add crops and masks of the chosen instances that are not in the partition yet; returns a preview, as metadata.

    Args:
        chosen: rows of the instance index with a rank, in order of their frames.
        frames: rows of the frame table.
    """
    sources = frames.set_index("frame_id", drop=False)
    for frame_id, rows in chosen.iloc[out.resumed_rows :].groupby("frame_id", sort=True):
        frame = sources.loc[frame_id]
        for row in cut_selected(dataset.image(frame), dataset.ids(frame), rows, selection):
            row["source_sha256"] = frame.image_sha256
            out.add(row)
    out.summary["instances"] = len(chosen)
    shown = list(islice(out.stored_rows(["instance_id", "crop_png"]), PREVIEWED_CROPS))
    return {"preview": crops_preview(shown, "crop_png", out.rows)} if shown else {}
