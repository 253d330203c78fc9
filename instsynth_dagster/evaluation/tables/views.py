"""The tables for display: fewer columns, AP times 100, text; Markdown for the Dagster UI and the terminal."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.evaluation.tables.tables import CITYSCAPES_AP, COCO_AP

MISSING, MINUS = "–", "\N{MINUS SIGN}"  # noqa: RUF001
CLASS_COLUMNS = "^ap50_(?!sd$)"
"""Columns of an `ap_table` that hold one class."""
_HEADINGS = {
    "segmenter": "segmenter",
    "arm": "arm",
    "class_name": "class",
    "ap": "AP",
    "ap50": "AP50",
    "pq": "PQ",
    "miou": "mIoU",
    "coco_ap": "COCO AP",
    "coco_ap50": "COCO AP50",
    "coco_ap75": "COCO AP75",
    "coco_ap_small": "small",
    "coco_ap_medium": "medium",
    "coco_ap_large": "large",
    "frames": "val frames",
    "samples": "train samples",
}


_SCORES = {COCO_AP: ("coco_ap", "coco_ap50", "pq", "miou"), CITYSCAPES_AP: ("ap", "ap50", "pq", "miou")}
"""Scores that a table shows, by the metric that leads."""
_BESIDE = {
    COCO_AP: ("coco_ap75", "coco_ap_small", "coco_ap_medium", "coco_ap_large", "ap"),
    CITYSCAPES_AP: ("coco_ap",),
}
"""Further scores, by the metric that leads."""


def heading(metric: str, lead: str = CITYSCAPES_AP) -> str:
    """The display name of a metric: AP without a prefix is that of Cityscapes, unless another one leads."""
    surname = "Cityscapes " if lead != CITYSCAPES_AP and metric in ("ap", "ap50") else ""
    return f"{surname}{_HEADINGS[metric]}"


def scores_shown(table: pd.DataFrame, lead: str) -> list[str]:
    """The displayed scores of an `ap_table` or a `difference_table`, as far as it has them."""
    return [metric for metric in _SCORES[lead] if metric in table and table[metric].notna().any()]


def ap_view(table: pd.DataFrame, lead: str = CITYSCAPES_AP) -> pd.DataFrame:
    """An `ap_table` in short: mean and deviation over seeds, both protocols, and the training effort of each arm.

    Args:
        lead: the metric by which arms are compared, "ap" or "coco_ap".
    """
    beside = readable(table[list(_BESIDE[lead])]).set_axis([heading(name, lead) for name in _BESIDE[lead]], axis=1)
    spent = readable(table[["samples", "steps", "seeds", "frames"]])
    scores = [score_texts(table, metric) for metric in scores_shown(table, lead)]
    return pd.concat([names(table), *scores, beside, spent], axis=1)


def score_texts(table: pd.DataFrame, metric: str) -> pd.Series:
    """A metric of an `ap_table` as text, with its deviation over the seeds where there are several."""
    deviations = table[f"{metric}_sd"]
    texts = [
        _text(metric, value) if np.isnan(deviation) else f"{_text(metric, value)} ± {100 * deviation:.1f}"
        for value, deviation in zip(table[metric], deviations, strict=True)
    ]
    return pd.Series(texts, index=table.index, name=_HEADINGS[metric])


def class_view(table: pd.DataFrame) -> pd.DataFrame:
    """AP50 of each class from an `ap_table`."""
    per_class = table.filter(regex=CLASS_COLUMNS).rename(columns=lambda name: name.removeprefix("ap50_"))
    return pd.concat([names(table), readable(per_class)], axis=1)


def difference_view(table: pd.DataFrame, lead: str = CITYSCAPES_AP) -> pd.DataFrame:
    """A `difference_table` with its intervals as text, in points."""
    columns: dict[Hashable, Any] = {**names(table), "against": table["baseline"]}
    for metric in scores_shown(table, lead):
        columns[_HEADINGS[metric]] = [signed(value) for value in table[metric]]
        columns[f"95 % interval of {_HEADINGS[metric]}"] = _spans(table, f"{metric}_low", f"{metric}_high")
    return pd.DataFrame(columns)


def difference_text(row: pd.Series, metric: str = CITYSCAPES_AP) -> str:
    """A metric of a row of a `difference_table` as the text of one cell."""
    return f"{signed(row[metric])} ({signed(row[f'{metric}_low'])} to {signed(row[f'{metric}_high'])})"


def part_view(table: pd.DataFrame) -> pd.DataFrame:
    """A `part_table` in points; parts whose interval excludes zero are marked."""
    clear = (table["low"] > 0) | (table["high"] < 0)
    return pd.DataFrame(
        {
            **names(table),
            "against": table["baseline"],
            "part": table["part"],
            "difference": [signed(value) for value in table["difference"]],
            "95 % interval": _spans(table, "low", "high"),
            "clear": ["yes" if shown else "" for shown in clear],
        }
    )


def _spans(table: pd.DataFrame, low: str, high: str) -> list[str]:
    return [
        MISSING if np.isnan(first) else f"{signed(first)} to {signed(last)}"
        for first, last in table[[low, high]].to_numpy(float)
    ]


_QUALITY = {
    "clip_image_cosine": ("CLIPScore (paper: image to image)", 3),
    "fid": ("FID", 5),
    "ssim": ("SSIM", 3),
    "psnr": ("PSNR", 1),
    "clip_score": ("CLIPScore (text to image)", 1),
    "clip_margin": ("class margin", 3),
    "kid": ("KID", 6),
    "ssim_inside": ("SSIM inside", 3),
    "psnr_inside": ("PSNR inside", 1),
    "ssim_outside": ("SSIM outside", 3),
    "psnr_outside": ("PSNR outside", 1),
    "diversity": ("diversity", 3),
    "real_diversity": ("diversity of the real", 3),
}


def quality_view(table: pd.DataFrame) -> pd.DataFrame:
    """The `image_quality` rows of all generators (column generator), one metric in each line."""
    columns = {
        row["generator"]: [_rounded(row[name], digits) for name, (_, digits) in _QUALITY.items()] + [str(row["crops"])]
        for row in table.to_dict("records")
    }
    return pd.DataFrame({"metric": [heading for heading, _ in _QUALITY.values()] + ["crops"], **columns})


def _rounded(value: float, digits: int) -> str:
    return MISSING if pd.isna(value) else f"{value:.{digits}f}".replace("-", MINUS)


def names(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that identify a row; segmenter and share of the labels only where there are several."""
    columns = {"segmenter": table["segmenter"], "labels": [f"{percent} %" for percent in table["percent"]]}
    several = {name: values for name, values in columns.items() if len(set(values)) > 1}
    return pd.DataFrame({**several, "arm": table["arm"]})


def instance_view(table: pd.DataFrame) -> pd.DataFrame:
    """Table I side by side: one row per class, original instances, then each arm's augmented total and ratio."""
    arms = {str(arm): rows.set_index("class_name") for arm, rows in table.groupby("arm", sort=False)}
    first = next(iter(arms.values()))
    columns: dict[Hashable, pd.Series] = {"original": first["original"]}
    for arm, rows in arms.items():
        if rows["synthetic"].any():
            columns |= {arm: rows["augmented"], f"{arm} ratio": rows["ratio"]}
    return readable(pd.DataFrame(columns).reset_index())


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Any table as text: counts with thousands separators, ratios with two digits, other fractions times 100."""
    texts = {
        _HEADINGS.get(str(name), str(name)): [_text(str(name), value) for value in column]
        for name, column in table.items()
    }
    return pd.DataFrame(texts, index=table.index)


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table, padded so that it is also readable in a terminal; numbers are right-aligned.

    Tables that are not text yet are converted by `readable` first.
    """
    text = table if all(pd.api.types.is_string_dtype(column) for _, column in table.items()) else readable(table)
    if text.columns.empty:
        return ""
    cells = [
        [str(name).replace("|", "\\|"), *(str(v).replace("|", "\\|") for v in text[name])] for name in text.columns
    ]
    widths = [max(3, *map(len, column)) for column in cells]
    numeric = [all(is_number(value) for value in column[1:]) for column in cells]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
    rows = [
        [
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(row, widths, numeric, strict=True)
        ]
        for row in zip(*cells, strict=True)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]]) + "\n"


def is_number(text: str) -> bool:
    """Whether a cell of a readable table is a number (or missing), to be right-aligned."""
    return text == MISSING or text[:1].isdigit() or (text[:1] in "+" + MINUS and text[1:2].isdigit())


def signed(difference: float) -> str:
    """A difference in AP (0..1) as signed points: 0.0312 -> "+3.1"."""
    text = f"{100 * difference:+.1f}"
    return MISSING if np.isnan(difference) else text.replace("-0.0", "+0.0").replace("-", MINUS)


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if not isinstance(value, float | np.floating):
        return str(value)
    if np.isnan(value):
        return MISSING
    return f"{value:.2f}" if name.endswith("ratio") else f"{100 * value:.1f}"
