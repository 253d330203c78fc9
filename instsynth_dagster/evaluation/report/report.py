"""One HTML file that holds verdict, tables, curves, pictures and provenance, and needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.report.charts import arm_colors, interval_chart, label_curves, line_chart
from instsynth_dagster.evaluation.report.gallery import data_uri, overlay_instances, overlay_predictions, shrink
from instsynth_dagster.evaluation.tables.views import (
    CLASS_COLUMNS,
    MISSING,
    ap_view,
    class_view,
    difference_view,
    instance_view,
    is_number,
    names,
    part_view,
    quality_view,
)

TEMPLATE = "report.html.j2"
MIN_SCORE = 0.5
ACCENT = (255, 196, 0)


@dataclass(frozen=True)
class Example:
    """One repainted instance on its way through the phases.

    `frame` uint8 (H, W, 3) source frame; `crop_box` xyxy in its pixels, x2/y2 exclusive; `crop` uint8 (S, S, 3), `mask`
    bool (s, s) and `repainted` uint8 (T, T, 3) show the same square at whatever size each has; `window` uint8 (h, w, 3)
    and `window_ids` integer (h, w) are the row of `is_cityscapes`.
    """

    instance_id: str
    class_name: str
    generator: str
    prompt: str
    frame: np.ndarray
    crop_box: tuple[int, int, int, int]
    crop: np.ndarray
    mask: np.ndarray
    repainted: np.ndarray
    window: np.ndarray
    window_ids: np.ndarray


@dataclass(frozen=True)
class ValFrame:
    """A val frame, uint8 (H, W, 3), its id map (H, W), and the prediction table of each arm for it."""

    frame_id: str
    image: np.ndarray
    ids: np.ndarray
    predictions: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows. Empty parts are left out of it.

    verdict: text of `verdict.verdict`, paragraphs separated by an empty line.
    ap, differences, parts, instances: an `ap_table`, a `difference_table`, a `part_table` and an `instance_table`
    (tables.py).
    results: title, text table and remark of each segmenter (paper.py).
    quality: `image_quality` of each generator, with a column generator.
    side_by_side: picture of the same instances by every generator.
    further: title, text table and picture (or None) of protocols beside the arms.
    gates: generator -> its `gate_sheet`.
    curves: columns segmenter, arm, percent, seed, step, loss.
    examples, frames: the galleries; labels: the table of their id maps.
    provenance: name -> text, e.g. settings digest, data set, generator weights, package versions.
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
    gates: Mapping[str, np.ndarray] = field(default_factory=dict)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: Sequence[Example] = ()
    frames: Sequence[ValFrame] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    labels: LabelTable = field(default_factory=lambda: LabelTable(()))
    title: str = "Did synthetic instances help?"


def render_report(data: ReportData) -> str:
    """The report as one self-contained HTML document. The same data give the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("instsynth_dagster.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colors = arm_colors([arm for table in (data.ap, data.differences, data.curves) for arm in table.get("arm", ())])
    return environment.get_template(TEMPLATE).render(
        title=data.title,
        verdict=[paragraph for paragraph in data.verdict.split("\n\n") if paragraph],
        intervals=Markup(interval_chart(data.differences, colors)) if len(data.differences) else "",
        headline=_headline(data.ap, colors),
        ap=_table(ap_view(data.ap)) if len(data.ap) else None,
        results=[(title, _table(table), remark) for title, table, remark in data.results],
        label_curves=[(name, Markup(svg)) for name, svg in label_curves(data.ap, colors)],
        parts=_table(part_view(data.parts)) if len(data.parts) else None,
        classes=_heat_table(data.ap) if len(data.ap) else None,
        differences=_table(difference_view(data.differences)) if len(data.differences) else None,
        instances=_table(instance_view(data.instances)) if len(data.instances) else None,
        quality=_table(quality_view(data.quality)) if len(data.quality) else None,
        side_by_side=None if data.side_by_side is None else data_uri(data.side_by_side, quality=90),
        further=[
            (title, _table(table), None if picture is None else data_uri(picture, quality=88))
            for title, table, picture in data.further
        ],
        gates=[(name, data_uri(sheet, quality=88)) for name, sheet in data.gates.items()],
        protocol=data.ap["protocol"].iloc[0] if len(data.ap) else "",
        charts=_curve_charts(data.curves, colors),
        examples=[_example(example, data.labels) for example in data.examples],
        frames=[_val_frame(frame, data.labels) for frame in data.frames],
        min_score=MIN_SCORE,
        provenance=data.provenance,
    )


def _headline(ap: pd.DataFrame, colors: Mapping[str, str]) -> list[dict[str, Any]]:
    """One tile for each arm and segmenter, its bar in proportion to the best AP50."""
    if ap.empty:
        return []
    most = max(float(np.nanmax(np.append(ap["ap50"].to_numpy(float), 0.0))), 1e-9)
    about = names(ap)
    return [
        {
            "name": " ".join([about["arm"][index], *about.drop(columns="arm").loc[index]]),
            "ap": _percent(row["ap"]),
            "ap50": _percent(row["ap50"]),
            "samples": f"{row['samples']:,}",
            "color": colors[row["arm"]],
            "share": 0 if np.isnan(row["ap50"]) else round(100 * row["ap50"] / most, 1),
        }
        for index, row in ap.iterrows()
    ]


def _percent(value: float) -> str:
    return MISSING if np.isnan(value) else f"{100 * value:.1f}"


def _table(view: pd.DataFrame) -> dict[str, Any]:
    """A table of text for the template: header and rows of cells (text, is it a number, heat 0..1 or None)."""
    numeric = {name: all(map(is_number, view[name])) for name in view}
    rows = [[(text, numeric[name], None) for name, text in row.items()] for row in view.to_dict("records")]
    return {"header": [(name, numeric[name]) for name in view], "rows": rows}


def _heat_table(ap: pd.DataFrame) -> dict[str, Any]:
    """AP50 of each class, each cell shaded by its value."""
    table = _table(class_view(ap))
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
            (f"{arm}, {percent} % of the labels, seed {seed}", colors[str(arm)], curve)
            for (arm, percent, seed), curve in runs
        ]
        legend = [(arm, colors[arm]) for arm in dict.fromkeys(rows["arm"])]
        charts.append({"name": segmenter, "legend": legend, "svg": Markup(line_chart(lines))})
    return charts


def _example(example: Example, labels: LabelTable) -> dict[str, Any]:
    framed = shrink(example.frame, 560)
    scale = framed.shape[1] / example.frame.shape[1]
    x1, y1, x2, y2 = (round(side * scale) for side in example.crop_box)
    framed = cv2.rectangle(framed.copy(), (x1, y1), (x2 - 1, y2 - 1), ACCENT, 2, cv2.LINE_AA)
    return {
        "instance_id": example.instance_id,
        "class_name": example.class_name,
        "generator": example.generator,
        "prompt": example.prompt,
        "frame": data_uri(framed),
        "crop": data_uri(shrink(example.crop, 240)),
        "mask": data_uri(np.where(example.mask, 255, 44).astype(np.uint8)),
        "repainted": data_uri(shrink(example.repainted, 240), quality=92),
        "window": data_uri(shrink(overlay_instances(example.window, example.window_ids, labels, named=False), 560)),
    }


def _val_frame(frame: ValFrame, labels: LabelTable) -> dict[str, Any]:
    pictures = [("frame", frame.image), ("ground truth", overlay_instances(frame.image, frame.ids, labels))]
    for arm, predictions in frame.predictions.items():
        shown = int((predictions["score"] >= MIN_SCORE).sum()) if len(predictions) else 0
        pictures.append((f"{arm}, {shown} found", overlay_predictions(frame.image, predictions, labels, MIN_SCORE)))
    return {"frame_id": frame.frame_id, "pictures": [(name, data_uri(shrink(image, 720))) for name, image in pictures]}
