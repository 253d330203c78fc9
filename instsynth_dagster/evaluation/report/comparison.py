"""Two runs on one page: settings that differ, results side by side, and the same instances side by side."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from instsynth_dagster.evaluation.report.charts import Line, arm_colors, line_chart
from instsynth_dagster.evaluation.report.record import KeptTable, Record, ReportPage
from instsynth_dagster.evaluation.report.report import html_table, html_templates, paragraphs
from instsynth_dagster.evaluation.tables.views import MINUS, MISSING, heading, scores_shown

TEMPLATE = "comparison.html.j2"
_CROPS = 64
"""Most pairs of crops."""
_SCORES, _DIFFERENCES, _INSTANCES, _IMAGES = _ORDER = ("scores", "differences", "instances", "images")
"""Tables of a record, in their order on the page."""
_CLASS = "ap50_"


def render_comparison(first: ReportPage, second: ReportPage, titles: tuple[str, str]) -> str:
    """Two reports as one self-contained HTML document; differences are the second minus the first."""
    from markupsafe import Markup

    one, other = first.record, second.record
    return (
        html_templates()
        .get_template(TEMPLATE)
        .render(
            titles=titles,
            provenance=_side_by_side(first.provenance, second.provenance),
            verdicts=[paragraphs(record.verdict) for record in (one, other)],
            other_protocol=one.lead != other.lead,
            settings=_side_by_side(one.settings, other.settings, changed=True),
            tables=[(title, html_table(table)) for title, table in _tables(one, other)],
            charts=[(name, legend, Markup(svg)) for name, legend, svg in _curves(one, other)],
            crops=_crops(first, second),
        )
    )


def _side_by_side(
    one: Mapping[str, str], other: Mapping[str, str], changed: bool = False
) -> list[tuple[str, str, str]]:
    """Name and both values of every entry, or with `changed` of those that differ."""
    rows = [(name, one.get(name, MISSING), other.get(name, MISSING)) for name in {**one, **other}]
    return [row for row in rows if row[1] != row[2]] if changed else rows


def _tables(one: Record, other: Record) -> list[tuple[str, pd.DataFrame]]:
    """Title and text of the tables that both runs have."""
    found = []
    leads = list(dict.fromkeys([one.lead, other.lead]))
    ends = [f"{lead}{end}" for lead in leads for end in ("", "_low", "_high")]
    for kept in sorted({*one.tables} & {*other.tables}, key=_place):
        cells = _compared(one.tables[kept], other.tables[kept])
        if kept == _SCORES:
            classes = [column for column in cells if str(column).startswith(_CLASS)]
            scores = [score for lead in leads for score in scores_shown(one.tables[kept].frame(), lead)]
            found.append(("Scores", _rows(cells[[column for column in cells if column in (*scores, "samples")]])))
            if len(leads) == 1:  # AP50 of a class is that of the leading protocol
                by_class = cells[classes].rename(columns=lambda name: name.removeprefix(_CLASS))
                found.append(("AP50 by class", _columns(by_class, "class")))
        elif kept == _INSTANCES:
            found.append(("Instances to learn from", _rows(cells.iloc[:, 0].unstack("arm", sort=False), str)))
        elif kept == _IMAGES:
            found.append(("Image metrics of the generators", _columns(cells, "metric")))
        else:
            title = "Differences between arms, with their 95 % intervals" if kept == _DIFFERENCES else kept
            cells = cells[[column for column in cells if column in ends]] if kept == _DIFFERENCES else cells
            found.append((title[:1].upper() + title[1:], _rows(cells)))
    return [(title, table) for title, table in found if table.size]


def _place(kept: str) -> tuple[int, str]:
    return (_ORDER.index(kept) if kept in _ORDER else len(_ORDER)), kept


def _compared(a: KeptTable, b: KeptTable) -> pd.DataFrame:
    """For each row and column of both tables the two values and their difference as text."""
    left, right = a.frame(), b.frame()
    if left.index.has_duplicates or right.index.has_duplicates:
        return pd.DataFrame()
    index = left.index.append(right.index.difference(left.index, sort=False))
    cells: dict[Hashable, list[str]] = {}
    for column in (str(name) for name in left if name in right):
        before, after = (pd.to_numeric(table[column].reindex(index), errors="coerce") for table in (left, right))
        cells[column] = [_cell(column, *pair) for pair in zip(before, after, strict=True)]
    return pd.DataFrame(cells, index=index)


def _cell(column: str, before: float, after: float) -> str:
    scale, digits = (100, ".1f") if _is_score(column) else (1, ",.4g")
    values = [MISSING if pd.isna(value) else _number(value * scale, digits) for value in (before, after)]
    if pd.isna(before) or pd.isna(after) or values[0] == values[1]:
        return " → ".join(values)
    return f"{values[0]} → {values[1]} ({_number((after - before) * scale, f'+{digits}')})"


def _number(value: float, digits: str) -> str:
    whole = float(value).is_integer() and digits.endswith("g")
    text = format(value, digits.replace(".4g", ".0f")) if whole else format(value, digits)
    return text.lstrip("-") if text in ("-0.0", "-0") else text.replace("-", MINUS)


def _is_score(column: str) -> bool:
    """Whether a column is displayed times 100."""
    return column.removeprefix("coco_").startswith("ap") or column in ("pq", "miou")


def _rows(cells: pd.DataFrame, called: Callable[[str], str] | None = None) -> pd.DataFrame:
    """A table with its keys in front; segmenter and share of the labels only where there are several."""
    about = _about(cells.index)
    return pd.concat([about, cells.reset_index(drop=True).rename(columns=called or _heading)], axis=1)


def _columns(cells: pd.DataFrame, what: str) -> pd.DataFrame:
    """A table with a column for each key."""
    turned = cells.T.set_axis([" ".join(key) for key in _about(cells.index).to_numpy()], axis=1)
    return turned.rename(index=_heading).rename_axis(what).reset_index()


def _about(index: pd.Index[Any]) -> pd.DataFrame:
    about = index.to_frame(index=False)
    single = [name for name in ("segmenter", "percent") if name in about and about[name].nunique() < 2]
    return about.drop(columns=single).astype(str).rename(columns={"class_name": "class", "baseline": "against"})


def _heading(column: str) -> str:
    if column.endswith(("_low", "_high")):
        return f"from {_heading(column[:-4])}" if column.endswith("_low") else f"to {_heading(column[:-5])}"
    try:
        return heading(column)
    except KeyError:
        return column.replace("_", " ")


def _curves(one: Record, other: Record) -> list[tuple[str, list[tuple[str, str]], str]]:
    """For each segmenter that both runs trained: its name, a legend, and the losses of both."""
    tables = [record.curves.frame().reset_index() if record.curves else pd.DataFrame() for record in (one, other)]
    if any(table.empty for table in tables):
        return []
    arms = list(dict.fromkeys([*tables[0]["arm"], *tables[1]["arm"]]))
    colors = arm_colors(arms)
    charts = []
    for segmenter in dict.fromkeys(tables[0]["segmenter"]):
        lines = [
            Line(f"{arm}, {percent} % of the labels, seed {seed}, {which}", colors[str(arm)], curve, dashed)
            for table, which, dashed in ((tables[0], "A", False), (tables[1], "B", True))
            for (arm, percent, seed), curve in table[table["segmenter"] == segmenter].groupby(
                ["arm", "percent", "seed"], sort=False
            )
        ]
        charts.append((str(segmenter), [(arm, colors[arm]) for arm in arms], line_chart(lines)))
    return charts


def _crops(first: ReportPage, second: ReportPage) -> list[dict[str, Any]]:
    """The same crops of both runs, then those that only one shows."""
    sides = [
        {(crop.generator, crop.instance_id, crop.replica): crop for crop in page.record.crops}
        for page in (first, second)
    ]
    keys = sorted({**sides[0], **sides[1]}, key=lambda key: sum(key in side for side in sides), reverse=True)
    shown = []
    for key in keys[:_CROPS]:
        halves = []
        for side, page in zip(sides, (first, second), strict=True):
            crop = side.get(key)
            after, before = page.pictures[crop.picture] if crop else ("", "")
            halves.append({"crop": crop, "after": after, "before": before})
        found = [side[key] for side in sides if key in side]
        verdicts = "|".join(sorted({"rejected" if crop.reason else "accepted" for crop in found}))
        shown.append({"key": key, "class_name": found[0].class_name, "halves": halves, "verdicts": verdicts})
    return shown
