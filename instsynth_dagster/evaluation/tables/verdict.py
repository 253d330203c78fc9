"""What the tables say, in plain words and no more than they say."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from instsynth_dagster.evaluation.tables.tables import BASELINES
from instsynth_dagster.evaluation.tables.views import signed

REAL, ZOOM_CROP = BASELINES
COPY_PASTE = "copy_paste"
_BETTER, _WORSE, _OPEN = "better", "worse", "open"


def verdict(differences: pd.DataFrame) -> str:
    """Whether each arm beat `real` and `zoom_crop`, one paragraph for each segmenter and arm.

    Args:
        differences: a `difference_table`.
    """
    if differences.empty:
        return "Nothing to compare: a verdict needs the arm `real` or `zoom_crop` beside another arm, and val frames."
    arms = differences[differences["arm"] != ZOOM_CROP]
    judged = differences if arms.empty else arms
    paragraphs = [_paragraph(rows) for _, rows in judged.groupby(["segmenter", "percent", "arm"], sort=False)]
    return "\n\n".join([*paragraphs, _caveat(differences)])


def _paragraph(rows: pd.DataFrame) -> str:
    arm, segmenter = rows["arm"].iloc[0], rows["segmenter"].iloc[0]
    records = {str(row["baseline"]): row for row in rows.to_dict("records")}
    found = {baseline: _finding(row) for baseline, row in records.items()}
    clauses = " and ".join(_clause(row) for row in records.values())
    percent = int(rows["percent"].iloc[0])
    share = "" if percent == 100 else f" with {percent} % of the labelled frames"
    return f"{_conclusion(arm, found)} Trained on {arm}{share}, {segmenter} {clauses}."


def _finding(row: Mapping[Hashable, Any]) -> str:
    if row["ap_low"] > 0:
        return _BETTER
    return _WORSE if row["ap_high"] < 0 else _OPEN


def _clause(row: Mapping[Hashable, Any]) -> str:
    baseline, span = row["baseline"], f"{signed(row['ap_low'])} to {signed(row['ap_high'])}"
    if pd.isna(row["ap"]):
        return f"cannot be compared with {baseline} (the val frames hold no instance that counts)"
    if _finding(row) == _OPEN:
        return f"cannot be told apart from {baseline} ({signed(row['ap'])} AP, 95 % interval {span} includes zero)"
    verb = "beats" if _finding(row) == _BETTER else "falls behind"
    return f"{verb} {baseline} by {100 * abs(row['ap']):.1f} AP (95 % interval {span})"


def _conclusion(arm: str, found: dict[str, str]) -> str:
    real, zoom = found.get(REAL), found.get(ZOOM_CROP)
    if arm == ZOOM_CROP:
        return {
            _BETTER: "Zooming in on instances helped, before anything was repainted.",
            _WORSE: "Zooming in on instances hurt.",
            _OPEN: "No effect of zooming in is shown.",
        }[real or _OPEN]
    if arm == COPY_PASTE:
        return {
            _BETTER: "Pasting real instances into other frames helped.",
            _WORSE: "Pasting real instances into other frames hurt.",
            _OPEN: "No effect of pasting real instances into other frames is shown.",
        }[real or _OPEN]
    if zoom is None:
        tail = " Without the arm zoom_crop, repainting and zooming in cannot be separated."
        return {
            _BETTER: "The synthetic windows helped.",
            _WORSE: "The synthetic windows hurt.",
            _OPEN: "No gain is shown.",
        }[real or _OPEN] + tail
    if zoom == _BETTER:
        over_real = "." if real in (_BETTER, None) else ", but no gain over real is shown."
        return f"Repainting helped beyond zooming in{over_real}"
    if zoom == _WORSE:
        return "Repainting cost part of what the same windows give untouched."
    if real == _BETTER:
        return "The gain over real may be the zoom alone: the same windows of untouched frames do as well."
    return "No gain from repainting is shown."


def _caveat(differences: pd.DataFrame) -> str:
    frames, seeds = int(differences["frames"].iloc[0]), int(differences["seeds"].min())
    text = f"The intervals resample the {frames} val frames"
    if seeds == 1:
        return f"{text}; with one training seed an arm they leave out the noise of training itself."
    return f"{text}, on the mean of {seeds} training seeds an arm; the tables give the deviation between seeds."
