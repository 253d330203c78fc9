"""Charts as SVG text: training curves and the intervals behind the verdict, readable on light and dark backgrounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd

from instsynth_dagster.evaluation.tables.tables import BASELINES, CITYSCAPES_AP
from instsynth_dagster.evaluation.tables.views import heading, signed

_BASELINE_COLORS = dict(zip(BASELINES, ("#8b95a5", "#d98a1f"), strict=True))
_ARM_COLORS = ("#2f80d0", "#1a9e77", "#b45fb0", "#d4552b")
_GREY = "#7d8590"
_SMALL, _LARGE = 14, 15
"""Font sizes in units of a chart, which is displayed at about its own size or a third smaller."""
_POINTS = 400
"""Most points of a line: more cannot be distinguished, and long trainings have tens of thousands."""
_FONT = 'font-family="system-ui, -apple-system, Segoe UI, Roboto, sans-serif"'


class Line(NamedTuple):
    """A line of a chart: its name, its colour, a table with a column for each axis, and whether it is dashed."""

    name: str
    color: str
    table: pd.DataFrame
    dashed: bool = False


def arm_colors(arms: Sequence[str]) -> dict[str, str]:
    """A fixed colour for each arm: grey and amber for the baselines, others in their order."""
    others = [arm for arm in dict.fromkeys(arms) if arm not in _BASELINE_COLORS]
    return _BASELINE_COLORS | {arm: _ARM_COLORS[index % len(_ARM_COLORS)] for index, arm in enumerate(others)}


def curve_svg(curve: pd.DataFrame) -> bytes:
    """Loss over steps of one training (columns step, loss) as an SVG file."""
    return line_chart([Line("loss", _ARM_COLORS[0], curve)]).encode()


def label_curves(ap: pd.DataFrame, colors: Mapping[str, str], lead: str = CITYSCAPES_AP) -> list[tuple[str, str]]:
    """The leading AP over the share of labelled frames for each segmenter of an `ap_table`; empty where there is only
    one share.
    """
    if ap.empty or ap["percent"].nunique() < 2:
        return []
    charts = []
    for segmenter, rows in ap.groupby("segmenter", sort=False):
        lines = [
            Line(str(arm), colors[str(arm)], line.assign(**{lead: 100 * line[lead]}).sort_values("percent"))
            for arm, line in rows.groupby("arm", sort=False)
        ]
        charts.append(
            (str(segmenter), line_chart(lines, axes=("percent", lead), title="percent of the labelled frames"))
        )
    return charts


def line_chart(
    lines: Sequence[Line],
    width: int = 720,
    height: int = 300,
    axes: tuple[str, str] = ("step", "loss"),
    title: str = "optimiser steps",
    legend: bool = False,
) -> str:
    """A chart of one column of the lines' tables over another.

    The vertical axis covers the range of the values, the horizontal one begins at 0.

    Args:
        legend: whether the names of the lines are listed above them, without repetitions.
    """
    points = [_thinned(line.table[list(axes)].to_numpy(float)) for line in lines]
    every = np.concatenate([p[np.isfinite(p).all(axis=1)] for p in points] or [np.zeros((0, 2))])
    if not len(every):
        return ""
    left, right, top, bottom = 54, 22, 40 if legend else 14, 48
    end = float(every[:, 0].max()) or 1.0
    x_ticks = [tick for tick in ticks(0, end) if tick <= end]
    y_ticks = ticks(every[:, 1].min(), every[:, 1].max())

    def place(steps: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = left + steps / end * (width - left - right)
        y = height - bottom - (losses - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (height - top - bottom)
        return x, y

    marks = []
    for tick in y_ticks:
        _, y = place(np.zeros(1), np.array([tick]))
        marks.append(_line(left, y[0], width - right, y[0], _GREY, 0.22))
        marks.append(_text(left - 8, y[0] + 4, f"{tick:g}", "end"))
    for tick in x_ticks:
        x, _ = place(np.array([tick]), np.zeros(1))
        marks.append(_text(x[0], height - bottom + 20, f"{tick:,.0f}", "middle"))
    marks.append(_text(width - right, height - 5, title, "end"))
    place_of_name = float(left)
    for name, color in {line.name: line.color for line in lines}.items() if legend else ():
        marks.append(_text(place_of_name, 20, name, "start", color, _LARGE))
        place_of_name += 24 + 8.2 * len(name)
    for line, along in zip(lines, points, strict=True):
        marks.append(_drawn(line, *place(along[:, 0], along[:, 1])))
    return _svg(width, height, marks, f"{axes[1]} over {title}")


def _drawn(line: Line, x: np.ndarray, y: np.ndarray) -> str:
    """A line through points, or a dot where there is only one."""
    seen = [(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True) if np.isfinite(b)]
    name = f"<title>{escape(line.name)}</title>"
    if len(seen) == 1:
        return f'<circle cx="{seen[0][0]:.1f}" cy="{seen[0][1]:.1f}" r="4" fill="{line.color}">{name}</circle>'
    path, dashes = " ".join(f"{a:.1f},{b:.1f}" for a, b in seen), ' stroke-dasharray="5 4"' if line.dashed else ""
    stroke = f'stroke="{line.color}" stroke-width="1.8" stroke-linejoin="round"{dashes}'
    return f'<polyline points="{path}" fill="none" {stroke}>{name}</polyline>'


def _thinned(points: np.ndarray) -> np.ndarray:
    """Evenly spaced rows of (N, 2), and the last one."""
    every = -(-len(points) // _POINTS)
    return points if every <= 1 else np.vstack([points[:-1:every], points[-1:]])


def interval_chart(
    differences: pd.DataFrame, colors: Mapping[str, str], lead: str = CITYSCAPES_AP, width: int = 720
) -> str:
    """Differences of a `difference_table` in the leading AP with their intervals, one row each, and a line at zero."""
    columns = [lead, f"{lead}_low", f"{lead}_high"]
    rows = differences.dropna(subset=columns)
    if rows.empty:
        return ""
    names = _row_names(rows)
    row_height, left, right, top = 36, 24 + round(8.2 * max(map(len, names))), 66, 8
    height = top + row_height * len(rows) + 50
    x_ticks = ticks(min(0.0, 100 * rows[columns[1]].min()), max(0.0, 100 * rows[columns[2]].max()))

    def place(points: float) -> float:
        return left + (points - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) * (width - left - right)

    floor = height - 48
    marks = [_line(place(tick), top, place(tick), floor, _GREY, 0.9 if tick == 0 else 0.18) for tick in x_ticks]
    marks += [_text(place(tick), floor + 20, signed(tick / 100) if tick else "0", "middle") for tick in x_ticks]
    marks.append(_text(width - right, height - 5, f"difference in {heading(lead)}", "end"))
    for index, (name, row) in enumerate(zip(names, rows.to_dict("records"), strict=True)):
        y = top + row_height * (index + 0.5)
        color = colors.get(row["arm"], _GREY)
        middle, low, high = (place(100 * row[key]) for key in columns)
        marks.append(_text(left - 14, y + 5, name, "end", "currentColor", _LARGE))
        marks.append(_line(low, y, high, y, color, 1, 5))
        marks.append(f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="6.5" fill="{color}"/>')
        marks.append(_text(width - right + 12, y + 5, signed(row[lead]), "start", "currentColor", _LARGE))
    return _svg(width, height, marks, f"differences in {heading(lead)} with 95 % intervals")


def _row_names(differences: pd.DataFrame) -> list[str]:
    several = [name for name in ("segmenter", "percent") if differences[name].nunique() > 1]
    names = []
    for row in differences.to_dict("records"):
        about = ", ".join(f"{row[name]} %" if name == "percent" else str(row[name]) for name in several)
        names.append(f"{row['arm']} − {row['baseline']}" + (f" ({about})" if about else ""))  # noqa: RUF001
    return names


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from at or below `low` to at or above `high`."""
    span = max(high - low, 1e-9)
    power = 10.0 ** np.floor(np.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= count)
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [float(round(number * step, 12)) for number in np.arange(first, max(last, first + 1) + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, color: str, opacity: float, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-opacity="{opacity}"'
        f' stroke-width="{width}" stroke-linecap="round"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, color: str = _GREY, size: int = _SMALL) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{escape(text)}</text>'
    )


def _svg(width: int, height: int, marks: Sequence[str], title: str) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    heading = f"<title>{escape(title)}</title>"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} role="img">{heading}{"".join(marks)}</svg>'
