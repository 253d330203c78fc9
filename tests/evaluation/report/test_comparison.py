"""Two reports on one page."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from instsynth_dagster.errors import ArtifactError
from instsynth_dagster.evaluation.report.comparison import render_comparison
from instsynth_dagster.evaluation.report.record import current_provenance, flattened, read_report
from instsynth_dagster.evaluation.report.report import ReportData, render_report, stamped
from instsynth_dagster.settings import Settings
from instsynth_dagster.settings.view import hashed
from tests.evaluation.report.test_report import data, parsed  # noqa: F401
from tests.graph.test_stale_table import RAW


@pytest.fixture(scope="module")
def pages(tmp_path_factory, data: ReportData):  # noqa: F811
    folder = tmp_path_factory.mktemp("pages")
    other = replace(
        data,
        ap=data.ap.assign(ap=data.ap["ap"] + 0.0123),
        settings=data.settings | {"seed": "1", "generators.g.steps": "30"},
        verdict="Something else.",
    )
    read = []
    for name, of in (("a", data), ("b", other)):
        path = folder / f"{name}.html"
        path.write_text(stamped(render_report(of), {"commit": name}))
        read.append(read_report(path))
    return read


def test_what_differs_stands_side_by_side(pages, data: ReportData):  # noqa: F811
    html = render_comparison(*pages, ("one", "two"))
    parsed(html)
    rows = re.findall(r'<tr><td>([^<]+)</td><td class="value">([^<]*)</td><td class="value">([^<]*)</td></tr>', html)
    assert ("generators.g.steps", "15", "30") in rows
    assert ("commit", "a", "b") in rows
    assert not [row for row in rows if row[0] == "label_percents"]
    first = 100 * data.ap["ap"][0]
    assert f"{first:.1f} → {first + 1.23:.1f} (+1.2)" in html
    assert "Something else." in html
    assert data.verdict.split("\n\n")[0] in html


def test_runs_by_two_protocols_are_compared_by_both(data: ReportData, tmp_path):  # noqa: F811
    read = []
    for name, lead, gain in (("a", "ap", 0.0), ("b", "coco_ap", 0.0321)):
        ap = data.ap.assign(coco_ap=data.ap["coco_ap"] + gain, coco_ap50=0.5)
        path = tmp_path / f"{name}.html"
        path.write_text(stamped(render_report(replace(data, ap=ap, lead=lead)), {"commit": name}))
        read.append(read_report(path))
    html = render_comparison(*read, ("one", "two"))
    same, other = (100 * data.ap[column][0] for column in ("ap", "coco_ap"))
    assert f">{same:.1f} → {same:.1f}</td>" in html
    assert f"{other:.1f} → {other + 3.21:.1f} (+3.2)" in html
    assert "AP50 by class" not in html  # one run has it by Cityscapes, the other by COCO
    assert "AP50 by class" in render_comparison(read[0], read[0], ("one", "one"))


def test_the_same_crops_stand_beside_each_other(pages):
    html = render_comparison(*pages, ("one", "two"))
    assert html.count('<div class="pair"') == 3
    assert html.count("data-other=") == 6
    assert "not shown in" not in html
    fewer = replace(pages[1], record=replace(pages[1].record, crops=pages[1].record.crops[:1]))
    assert render_comparison(pages[0], fewer, ("one", "two")).count("not shown in B") == 2


def test_a_run_against_itself_differs_in_nothing(pages):
    html = render_comparison(pages[0], pages[0], ("one", "one"))
    assert "None of those that content depends on." in html
    assert not re.findall(r"→ [^<]*\(", html)


def test_settings_have_dotted_keys_and_every_value():
    found = flattened(hashed(Settings.model_validate(RAW)))
    assert found["generators.gligen.kind"] == "gligen"
    assert found["prompts.car.templates"].startswith('["a car')
    assert found["dataset.train_cities"] == '["ulm", "jena"]'
    assert found["gates.min_change"] == "0.1"
    assert found["few_shot.features.model"] == "models/features"
    assert "workers" not in {key.split(".")[0] for key in found}


@pytest.mark.parametrize("text", ["", "<html>", '<script type="application/json" id="run">{"lead": 3}</script>'])
def test_a_page_that_is_no_report_is_named(tmp_path, text):
    path = tmp_path / "page.html"
    path.write_text(text)
    with pytest.raises(ArtifactError, match=r"page\.html: not a report that can be compared"):
        read_report(path)
    with pytest.raises(ArtifactError, match=r"none\.html: cannot be read"):
        read_report(tmp_path / "none.html")


def test_a_page_says_when_it_was_made_and_by_what():
    made = current_provenance()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", made["made"])
    assert made["commit"]
