"""Metrics and loss curves as DVC shows them: a row for each arm and generator, a picture for each segmenter."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.evaluation.report.charts import Line, arm_colors, line_chart
from instsynth_dagster.evaluation.tables.views import heading, names, scores_shown

METRICS, CURVES = "metrics", "loss"
"""Folders of small JSON files (`dvc metrics show`) and of SVG pictures (`dvc plots show`)."""
_OF_IMAGES = {"fid": ("FID", 4), "clip_margin": ("margin", 3)}
"""The image metrics of realism; the report has all image metrics."""


def write_metrics(folder: Path, ap: pd.DataFrame, quality: pd.DataFrame, lead: str) -> None:
    """A file for each arm of an `ap_table`, scores times 100, and for each generator's row of `image_quality`.

    Args:
        folder: its contents are replaced.
        lead: the metric by which arms are compared, "ap" or "coco_ap".
    """
    rows: dict[str, Mapping[str, float]] = {}
    about = names(ap)
    for index, row in ap.iterrows():
        name = "-".join([*about.drop(columns="arm").loc[index], about["arm"][index]])
        shown = [metric for metric in scores_shown(ap, lead) if pd.notna(row[metric])]
        rows[name] = {heading(metric): round(100 * float(row[metric]), 2) for metric in shown}
    for row in quality.to_dict("records"):
        rows[f"{row['generator']}-images"] = {
            title: round(float(row[name]), digits) for name, (title, digits) in _OF_IMAGES.items()
        }
    _emptied(folder)
    for name, values in rows.items():
        write_atomically(folder / f"{_file_name(name)}.json", json.dumps(values, indent=1).encode() + b"\n")


def write_curves(folder: Path, curves: pd.DataFrame) -> None:
    """A picture for each segmenter of `loss_curves`, with a line for each training.

    Args:
        folder: its contents are replaced.
    """
    _emptied(folder)
    colors = arm_colors(list(curves["arm"]))
    for segmenter, rows in curves.groupby("segmenter", sort=False):
        runs = rows.groupby(["arm", "percent", "seed"], sort=False)
        lines = [Line(str(arm), colors[str(arm)], curve) for (arm, _, _), curve in runs]
        picture = line_chart(lines, title=f"optimiser steps of {segmenter}", legend=True)
        write_atomically(folder / f"{_file_name(str(segmenter))}.svg", picture.encode())


def _emptied(folder: Path) -> None:
    """Make an empty folder, without files of earlier arms and segmenters."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w@.-]+", "", name)
