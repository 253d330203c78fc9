"""One HTML file with verdict, tables, curves, pictures and provenance, which needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.report.charts import Line, arm_colors, interval_chart, label_curves, line_chart
from instsynth_dagster.evaluation.report.crops import CropGallery
from instsynth_dagster.evaluation.report.gallery import data_uri
from instsynth_dagster.evaluation.report.record import STAMP, KeptTable, Record
from instsynth_dagster.evaluation.report.sections import (
    MIN_SCORE,
    Example,
    ValFrame,
    crop_section,
    example_section,
    frame_section,
    kept_crops,
)
from instsynth_dagster.evaluation.tables.tables import CITYSCAPES_AP, COCO_AP
from instsynth_dagster.evaluation.tables.views import (
    CLASS_COLUMNS,
    MISSING,
    ap_view,
    class_view,
    difference_view,
    heading,
    instance_view,
    is_number,
    names,
    part_view,
    quality_view,
    scores_shown,
)

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATE = "report.html.j2"
_ARM = ("segmenter", "percent", "arm")
_CURVE_POINTS = 200
"""Most points of a loss curve in the record of a page."""


@dataclass(frozen=True)
class ReportData:
    """The content of a report. Empty parts are left out of the page.

    verdict: text of `verdict.verdict`, paragraphs separated by an empty line.
    ap, differences, parts, instances: an `ap_table`, a `difference_table`, a `part_table` and an `instance_table`
    (tables.py).
    results: title, text table and remark for each segmenter (paper.py).
    quality: `image_quality` of each generator, with a column generator.
    side_by_side: picture of the same instances by every generator.
    further: title, text table and picture (or None) of protocols beside the arms.
    galleries: repainted crops of each generator with their verdicts.
    curves: columns segmenter, arm, percent, seed, step, loss.
    examples, frames: the galleries; labels: label table of their id maps.
    provenance: name -> text, for example version of the data, generator weights.
    settings: everything that the content depends on, by dotted key.
    lead: the metric by which arms are compared, "ap" or "coco_ap".
    """

    verdict: str = ""
    ap: pd.DataFrame = field(default_factory=pd.DataFrame)
    differences: pd.DataFrame = field(default_factory=pd.DataFrame)
    parts: pd.DataFrame = field(default_factory=pd.DataFrame)
    results: Sequence[tuple[str, pd.DataFrame, str]] = ()
    instances: pd.DataFrame = field(default_factory=pd.DataFrame)
    quality: pd.DataFrame = field(default_factory=pd.DataFrame)
    side_by_side: np.ndarray | None = None
    further: Sequence[tuple[str, pd.DataFrame, np.ndarray | None]] = ()
    galleries: Sequence[CropGallery] = ()
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: Sequence[Example] = ()
    frames: Sequence[ValFrame] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    lead: str = CITYSCAPES_AP
    labels: LabelTable = field(default_factory=lambda: LabelTable(()))
    title: str = "Did synthetic instances help?"


def render_report(data: ReportData) -> str:
    """The report as one self-contained HTML document, without time and code version; equal data give equal text."""
    from markupsafe import Markup

    lead = data.lead
    colors = arm_colors([arm for table in (data.ap, data.differences, data.curves) for arm in table.get("arm", ())])
    return (
        html_templates()
        .get_template(TEMPLATE)
        .render(
            title=data.title,
            lead_name=heading(lead),
            half_name=heading(f"{lead}50"),
            verdict=paragraphs(data.verdict),
            intervals=Markup(interval_chart(data.differences, colors, lead)) if len(data.differences) else "",
            headline=_headline(data.ap, colors, lead),
            ap=html_table(ap_view(data.ap, lead)) if len(data.ap) else None,
            results=[(title, html_table(table), remark) for title, table, remark in data.results],
            label_curves=[(name, Markup(svg)) for name, svg in label_curves(data.ap, colors, lead)],
            parts=html_table(part_view(data.parts)) if len(data.parts) else None,
            classes=_heat_table(data.ap) if len(data.ap) else None,
            differences=html_table(difference_view(data.differences, lead)) if len(data.differences) else None,
            instances=html_table(instance_view(data.instances)) if len(data.instances) else None,
            quality=html_table(quality_view(data.quality)) if len(data.quality) else None,
            side_by_side=None if data.side_by_side is None else data_uri(data.side_by_side, quality=90),
            further=[
                (title, html_table(table), None if picture is None else data_uri(picture, quality=88))
                for title, table, picture in data.further
            ],
            galleries=[crop_section(gallery, html_table) for gallery in data.galleries],
            protocol=data.ap["protocol"].iloc[0] if len(data.ap) else "",
            charts=_curve_charts(data.curves, colors),
            examples=[example_section(example, data.labels) for example in data.examples],
            frames=[frame_section(frame, data.labels) for frame in data.frames],
            min_score=MIN_SCORE,
            provenance=data.provenance,
            stamp=Markup(STAMP),
            record=_record(data).to_json(),
        )
    )


def stamped(page: str, made: Mapping[str, str]) -> str:
    """A rendered page with its time and code version inserted, otherwise unchanged."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in made.items())
    return page.replace(STAMP, rows, 1)


def html_templates() -> Environment:
    """The templates of this package; inserted text is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("instsynth_dagster.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def paragraphs(text: str) -> list[str]:
    """Paragraphs of a text, which empty lines separate."""
    return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]


def _record(data: ReportData) -> Record:
    """The record that a comparison with another run needs, which may be judged by the other protocol."""
    leads = (CITYSCAPES_AP, COCO_AP)
    tables = {}
    if len(data.ap):
        scores = dict.fromkeys(score for lead in leads for score in scores_shown(data.ap, lead))
        tables["scores"] = KeptTable.of(data.ap, _ARM, [*scores, *data.ap.filter(regex=CLASS_COLUMNS), "samples"])
    if len(data.differences):
        ends = [f"{lead}{end}" for lead in leads for end in ("", "_low", "_high") if lead in data.differences]
        tables["differences"] = KeptTable.of(data.differences, (*_ARM, "baseline"), ends)
    if len(data.instances):
        tables["instances"] = KeptTable.of(data.instances, ("arm", "class_name"), ["augmented"])
    if len(data.quality):
        tables["images"] = KeptTable.of(data.quality, ["generator"], [c for c in data.quality if c != "generator"])
    for gallery in data.galleries:
        columns = [column for column in gallery.counts if column != "class_name"]
        tables[f"crops of {gallery.generator}"] = KeptTable.of(gallery.counts, ["class_name"], columns)
    curves = None
    if len(data.curves):
        runs = [rows[:: -(-len(rows) // _CURVE_POINTS)] for _, rows in data.curves.groupby([*_ARM, "seed"], sort=False)]
        curves = KeptTable.of(pd.concat(runs), (*_ARM, "seed"), ["step", "loss"])
    return Record(data.lead, data.settings, data.verdict, tables, curves, kept_crops(data.galleries))


def _headline(ap: pd.DataFrame, colors: Mapping[str, str], lead: str) -> list[dict[str, Any]]:
    """One tile for each arm and segmenter in the leading metric, with a bar relative to the best."""
    if ap.empty:
        return []
    most = max(float(np.nanmax(np.append(ap[lead].to_numpy(float), 0.0))), 1e-9)
    about, beside = names(ap), f"{lead}50"
    return [
        {
            "name": " ".join([about["arm"][index], *about.drop(columns="arm").loc[index]]),
            "value": _percent(row[lead]),
            "beside": f"{heading(beside)} {_percent(row[beside])}",
            "samples": f"{row['samples']:,}",
            "color": colors[row["arm"]],
            "share": 0 if np.isnan(row[lead]) else round(100 * row[lead] / most, 1),
        }
        for index, row in ap.iterrows()
    ]


def _percent(value: float) -> str:
    return MISSING if np.isnan(value) else f"{100 * value:.1f}"


def html_table(view: pd.DataFrame) -> dict[str, Any]:
    """A table of text for the templates: header and rows of cells (text, whether it is a number, heat 0..1 or None)."""
    numeric = {name: all(map(is_number, view[name])) for name in view}
    rows = [[(text, numeric[name], None) for name, text in row.items()] for row in view.to_dict("records")]
    return {"header": [(name, numeric[name]) for name in view], "rows": rows}


def _heat_table(ap: pd.DataFrame) -> dict[str, Any]:
    """AP50 of each class, each cell shaded by its value."""
    table = html_table(class_view(ap))
    values = ap.filter(regex=CLASS_COLUMNS).to_numpy(float)
    names = len(table["header"]) - values.shape[1]
    for row, heat in zip(table["rows"], np.nan_to_num(values), strict=True):
        row[names:] = [(text, True, round(float(h), 3)) for (text, _, _), h in zip(row[names:], heat, strict=True)]
    return table


def _curve_charts(curves: pd.DataFrame, colors: Mapping[str, str]) -> list[dict[str, Any]]:
    from markupsafe import Markup

    charts = []
    for segmenter, rows in curves.groupby("segmenter", sort=False) if len(curves) else ():
        runs = rows.groupby(["arm", "percent", "seed"], sort=False)
        lines = [
            Line(f"{arm}, {percent} % of the labels, seed {seed}", colors[str(arm)], curve)
            for (arm, percent, seed), curve in runs
        ]
        legend = [(arm, colors[arm]) for arm in dict.fromkeys(rows["arm"])]
        charts.append({"name": segmenter, "legend": legend, "svg": Markup(line_chart(lines))})
    return charts
