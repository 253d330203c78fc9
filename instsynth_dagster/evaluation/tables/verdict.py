"""The conclusions from the tables, in plain words and no stronger than the tables allow."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from instsynth_dagster.evaluation.tables.tables import BASELINES, CITYSCAPES_AP
from instsynth_dagster.evaluation.tables.views import heading, signed
from instsynth_dagster.graph import PASTED_INSERT

REAL, ZOOM_CROP = BASELINES
LEARNED = 0.01
"""AP50 (0..1) below which a segmenter counts as untrained and arms are not compared."""
_CONTROLS = {
    ZOOM_CROP: ("Zooming in on instances", "zooming in"),
    "copy_paste": ("Pasting real instances into other frames", "pasting real instances into other frames"),
    PASTED_INSERT: ("Pasting real instances at new places", "pasting real instances at new places"),
    "color_jitter": ("Other colours without a generator", "other colours without a generator"),
    "color_jitter_frame": ("Other colours without a generator", "other colours without a generator"),
    "oracle": ("A perfect generator", "a perfect generator"),
    "oracle_frame": ("A perfect generator in whole frames", "a perfect generator in whole frames"),
}
"""Arms without a generator: a phrase for the start of a sentence, and one for its middle."""
_BETTER, _WORSE, _OPEN = "better", "worse", "open"


def verdict(differences: pd.DataFrame, lead: str = CITYSCAPES_AP) -> str:
    """Whether each arm beat `real`, `zoom_crop` and rivals without a generator, one paragraph for each segmenter and
    arm.

    Args:
        differences: a `difference_table`.
        lead: the metric that decides, "ap" or "coco_ap".
    """
    if differences.empty:
        return "Nothing to compare: a verdict needs the arm `real` or `zoom_crop` beside another arm, and val frames."
    arms = differences[differences["arm"] != ZOOM_CROP]
    judged = differences if arms.empty else arms
    paragraphs = [_paragraph(rows, lead) for _, rows in judged.groupby(["segmenter", "percent", "arm"], sort=False)]
    return "\n\n".join([*paragraphs, _caveat(differences)])


def _paragraph(rows: pd.DataFrame, lead: str) -> str:
    arm, segmenter = rows["arm"].iloc[0], rows["segmenter"].iloc[0]
    records = {str(row["baseline"]): row for row in rows.to_dict("records")}
    found = {baseline: _finding(row, lead) for baseline, row in records.items()}
    clauses = _listed([_clause(row, lead) for row in records.values()])
    percent = int(rows["percent"].iloc[0])
    share = "" if percent == 100 else f" with {percent} % of the labelled frames"
    if rows["best_ap50"].max() < LEARNED:
        best = 100 * rows["best_ap50"].max()
        return f"Nothing was learned by {segmenter}{share}: AP50 is {best:.1f} at most, so {arm} proves nothing."
    return f"{_conclusion(arm, found)} Trained on {arm}{share}, {segmenter} {clauses}."


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _finding(row: Mapping[Hashable, Any], lead: str) -> str:
    if row[f"{lead}_low"] > 0:
        return _BETTER
    return _WORSE if row[f"{lead}_high"] < 0 else _OPEN


def _clause(row: Mapping[Hashable, Any], lead: str) -> str:
    difference, name = row[lead], heading(lead)
    baseline, span = row["baseline"], f"{signed(row[f'{lead}_low'])} to {signed(row[f'{lead}_high'])}"
    if pd.isna(difference):
        return f"cannot be compared with {baseline} (the val frames hold no instance that counts)"
    if _finding(row, lead) == _OPEN:
        return f"cannot be told apart from {baseline} ({signed(difference)} {name}, 95 % interval {span} includes zero)"
    verb = "beats" if _finding(row, lead) == _BETTER else "falls behind"
    return f"{verb} {baseline} by {100 * abs(difference):.1f} {name} (95 % interval {span})"


def _conclusion(arm: str, found: dict[str, str]) -> str:
    real, zoom = found.get(REAL), found.get(ZOOM_CROP)
    if arm in _CONTROLS:
        subject, within = _CONTROLS[arm]
        before = ", before anything was repainted" if arm == ZOOM_CROP else ""
        return {
            _BETTER: f"{subject} helped{before}.",
            _WORSE: f"{subject} hurt.",
            _OPEN: f"No effect of {within} is shown.",
        }[real or _OPEN]
    if zoom is None:
        tail = " Without the arm zoom_crop, repainting and zooming in cannot be separated."
        return {
            _BETTER: "The synthetic windows helped.",
            _WORSE: "The synthetic windows hurt.",
            _OPEN: "No gain is shown.",
        }[real or _OPEN] + tail
    if zoom == _BETTER:
        undecided = [baseline for baseline, finding in found.items() if finding != _BETTER]
        return f"Repainting helped beyond zooming in{_but(undecided)}."
    if zoom == _WORSE:
        return "Repainting cost part of what the same windows give untouched."
    if real == _BETTER:
        return "The gain over real may be the zoom alone: the same windows of untouched frames do as well."
    return "No gain from repainting is shown."


def _but(undecided: Sequence[str]) -> str:
    return f", but no gain over {_listed(undecided)} is shown" if undecided else ""


def _caveat(differences: pd.DataFrame) -> str:
    frames, seeds = int(differences["frames"].iloc[0]), int(differences["seeds"].min())
    text = f"The intervals resample the {frames} val frames"
    if seeds == 1:
        return f"{text}; with one training seed an arm they leave out the noise of training itself."
    return f"{text} and the {seeds} training seeds of each arm."
