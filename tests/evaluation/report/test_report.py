from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.evaluation.metrics.coco_ap import coco_matches
from instsynth_dagster.evaluation.metrics.instance_ap import match_frame
from instsynth_dagster.evaluation.report.charts import Line, arm_colors, curve_svg, interval_chart, line_chart, ticks
from instsynth_dagster.evaluation.report.crops import Crop, CropGallery
from instsynth_dagster.evaluation.report.record import STAMP, read_report
from instsynth_dagster.evaluation.report.report import ReportData, render_report, stamped
from instsynth_dagster.evaluation.report.sections import Example, ValFrame
from instsynth_dagster.evaluation.tables.tables import Run, ap_table, compare, difference_table, instance_table
from instsynth_dagster.evaluation.tables.verdict import verdict
from tests.evaluation.metrics.random_streets import random_ids, random_predictions

ARMS = ("real", "zoom_crop", "diffinpainting")
VOID = {"meta", "img", "br", "line", "circle", "polyline", "option"}


class Balance(HTMLParser):
    """Open elements, and everything that src or href point to."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass


def parsed(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    return parser


@pytest.fixture(scope="module")
def data() -> ReportData:
    rng = np.random.default_rng(0)
    truth = [random_ids(rng) for _ in range(3)]
    image = rng.integers(0, 256, (*truth[0].shape, 3), dtype=np.uint8)
    predictions = {arm: [random_predictions(rng, ids, "f") for ids in truth] for arm in ARMS}
    runs = []
    for arm in ARMS:
        frames = list(zip(truth, predictions[arm], strict=True))
        matches = [match_frame(*frame, labels=CITYSCAPES) for frame in frames]
        runs.append(
            Run(
                arm,
                "mask2former",
                0,
                300,
                120,
                matches,
                coco_matches(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES),
            )
        )
    samples = pd.DataFrame([{"source": "window", **{f"instances_{name}": 1 for name in CITYSCAPES.classes}}])
    differences = difference_table(compare(runs, seed=0, classes=CITYSCAPES.classes))
    about = {"segmenter": "mask2former", "percent": 100, "seed": 0}
    curves = [pd.DataFrame({**about, "arm": arm, "step": [1, 9], "loss": [4, 2]}) for arm in ARMS]
    crop = image[:40, :40]
    example = Example(
        instance_id="dunmere_000001_000019:26003",
        class_name="car",
        generator="diffinpainting",
        prompt="a photo of a <script>alert(1)</script> car",
        frame=image,
        crop_box=(0, 0, 40, 40),
        crop=crop,
        mask=np.eye(40, dtype=bool),
        repainted=crop[:, ::-1],
        window=image[:40, :80],
        window_ids=truth[0][:40, :80],
    )
    crops = [
        Crop("g", f"f:{number}", 0, name, "a photo", reason, crop, crop[::-1])
        for number, (name, reason) in enumerate([("car", ""), ("car", "change 0.01 below 0.02"), ("bus", "one colour")])
    ]
    counts = pd.DataFrame({"class_name": ["car", "total"], "crops": 2, "accepted": 1, "change": 1})
    return ReportData(
        labels=CITYSCAPES,
        galleries=[CropGallery("g", crops, counts)],
        settings={"generators.g.steps": "15"},
        verdict=verdict(differences),
        ap=ap_table(runs, classes=CITYSCAPES.classes),
        differences=differences,
        instances=instance_table(dict.fromkeys(ARMS, samples), classes=CITYSCAPES.classes, labels=CITYSCAPES),
        curves=pd.concat(curves),
        examples=[example],
        frames=[ValFrame("dunmere_000001", image, truth[0], {arm: predictions[arm][0] for arm in ARMS})],
        provenance={"settings": "sha256 0123"},
    )


@pytest.mark.slow
def test_report_is_whole_and_needs_nothing_else(data: ReportData) -> None:
    html = render_report(data)
    targets = parsed(html).targets
    assert all(target.startswith(("data:image/webp;base64,", "#")) for target in targets)
    assert sum(target.startswith("data:") for target in targets) == 5 + 2 + len(ARMS) + 3
    ids = set(re.findall(r'id="([\w-]+)"', html))
    assert set(re.findall(r'data-other="#([\w-]+)"', html)) <= ids
    assert {target[1:] for target in targets if target.startswith("#")} <= ids
    assert "url(" not in html
    assert "@import" not in html
    assert html == render_report(data)


def test_report_says_what_the_tables_say(data: ReportData) -> None:
    html = render_report(data)
    for row in data.ap.to_dict("records"):
        assert row["arm"] in html
        assert f"{100 * row['ap']:.1f}" in html
        assert f"{100 * row['ap50']:.1f}" in html
    assert all(paragraph in html for paragraph in data.verdict.split("\n\n"))
    assert "Cityscapes instance AP (official protocol" in html
    assert "sha256 0123" in html


def test_tiles_and_intervals_are_of_the_metric_of_the_verdict(data: ReportData) -> None:
    for lead, name in (("ap", "AP"), ("coco_ap", "COCO AP")):
        html = render_report(replace(data, lead=lead, verdict=verdict(data.differences, lead)))
        shown = re.findall(r"<strong>([\d.]+)</strong> <small>([\w ]+)</small>", html)
        assert shown == [(f"{100 * value:.1f}", name) for value in data.ap[lead]]
        assert f"difference in {name}<" in html
        assert f"<h2>{name} of each arm</h2>" in html


def test_crops_are_filtered_by_class_verdict_and_gate(data: ReportData) -> None:
    html = render_report(data)
    found = re.findall(r'data-class="(\w+)" data-verdicts="([^"]+)"', html)
    assert found == [("car", "accepted"), ("car", "rejected|change"), ("bus", "rejected|one colour")]
    assert re.findall(r'<option value="([^"]+)">', html) == ["accepted", "rejected", "change", "one colour"]


def test_a_stamp_changes_nothing_but_the_provenance(data: ReportData, tmp_path) -> None:
    page = render_report(data)
    assert page.count(STAMP) == 1
    path = tmp_path / "report.html"
    path.write_text(stamped(page, {"commit": "abc <1>"}))
    assert path.read_text().replace("<dt>commit</dt><dd>abc &lt;1&gt;</dd>", STAMP) == page
    read = read_report(path)
    assert read.provenance == {"commit": "abc <1>", "settings": "sha256 0123"}
    assert read.record.verdict == data.verdict
    assert read.record.settings == data.settings
    assert [crop.reason for crop in read.record.crops] == ["", "change 0.01 below 0.02", "one colour"]
    assert all(uri.startswith("data:image/webp") for crop in read.record.crops for uri in read.pictures[crop.picture])
    scores = read.record.tables["scores"].frame()
    np.testing.assert_allclose(scores["ap"], data.ap["ap"], atol=1e-6)


def test_prompts_are_text_not_markup(data: ReportData) -> None:
    html = render_report(data)
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize("missing", ["ap", "differences", "instances", "curves"])
def test_a_missing_table_is_left_out(data: ReportData, missing: str) -> None:
    kept = {name: getattr(data, name) for name in ("ap", "differences", "instances", "curves") if name != missing}
    parsed(render_report(ReportData(**kept)))


def test_an_empty_report_still_stands() -> None:
    html = render_report(ReportData())
    parsed(html)
    assert re.findall("<h2>(.*)</h2>", html) == ["Provenance"]


def heights(svg: str) -> list[float]:
    [line] = ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}polyline")
    return [float(point.split(",")[1]) for point in line.attrib["points"].split()]


def test_the_axis_of_a_curve_spans_what_the_curve_does() -> None:
    curve = pd.DataFrame({"step": [1, 2, 3], "loss": [30.0, 29.0, 28.0]})
    first, _, last = heights(line_chart([Line("loss", "red", curve)], height=300))
    assert last - first > 200


def test_a_curve_of_one_point_is_seen() -> None:
    svg = line_chart([Line("loss", "red", pd.DataFrame({"step": [10], "loss": [3.0]}))])
    assert len(list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}circle"))) == 1


def test_a_long_curve_keeps_its_ends_and_few_points() -> None:
    curve = pd.DataFrame({"step": np.arange(90_000), "loss": np.linspace(9, 1, 90_000)})
    found = heights(line_chart([Line("loss", "red", curve)]))
    assert 200 < len(found) <= 402
    whole = heights(line_chart([Line("loss", "red", curve.iloc[[0, -1]])]))
    assert (found[0], found[-1]) == (whole[0], whole[-1])


def test_charts_are_valid_svg(data: ReportData) -> None:
    lines = ElementTree.fromstring(curve_svg(pd.DataFrame({"step": [1, 2, 3], "loss": [3.0, np.nan, 1.0]})))
    [line] = lines.iter("{http://www.w3.org/2000/svg}polyline")
    assert len(line.attrib["points"].split()) == 2
    chart = ElementTree.fromstring(interval_chart(data.differences, arm_colors(ARMS)))
    assert len(list(chart.iter("{http://www.w3.org/2000/svg}circle"))) == len(data.differences) == 3
    assert line_chart([]) == ""
    assert interval_chart(data.differences.assign(ap=np.nan), {}) == ""


@pytest.mark.parametrize(("low", "high"), [(0, 300), (-3.1, 41.6), (0, 0.0004), (-0.2, 0), (0, 0), (12, 13)])
def test_ticks_are_round_and_cover(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert marks[0] <= low + 1e-9
    assert marks[-1] >= high - 1e-9
    assert 2 <= len(marks) <= 8
    assert np.allclose(np.diff(marks), marks[1] - marks[0])


def test_arms_keep_their_colours() -> None:
    colors = arm_colors(["diffinpainting", "real", "gligen"])
    assert len({colors[arm] for arm in ("real", "zoom_crop", "diffinpainting", "gligen")}) == 4
