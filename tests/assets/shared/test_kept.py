"""What an asset reports, kept with its partition and told again."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from assets.shared.events import metadata_of
from assets.shared.kept import SERVED_AT, keep
from assets.shared.made import Made, Markdown, Page
from assets.shared.pictures import curve_picture, sample, sheet_preview
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.evaluation.report.gallery import data_uri
from tests.artifacts.test_store import FINGERPRINT

SHEET = np.arange(64 * 96 * 3, dtype=np.uint32).reshape(64, 96, 3).astype(np.uint8)


def told(store: Store, made: Made):
    with store.write("demo", "a|b", FINGERPRINT) as out:
        (out.folder("report") / "report.html").write_text("<p>page</p>")
        keep(out, made)
    manifest = store.require("demo", "a|b")
    return manifest, metadata_of(store, manifest)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


def test_pictures_come_first_and_fit_into_what_the_ui_shows_without_a_click(store):
    made = Made({"crops": 19, "preview": sheet_preview(SHEET, sample(12, 19)), "report": Page("report", "report.html")})
    manifest, shown = told(store, made)
    assert list(shown)[:3] == ["preview", "report", "crops"]
    text = shown["preview"].md_str
    assert text.startswith("12 of 19 shown\n\n[![preview")
    assert len(text) < 1000  # what Dagster's UI shows in place; longer texts become a link
    (kept,) = manifest.folders["previews"]
    assert f"({SERVED_AT}/demo/a/b/{kept.path})" in text
    picture = (store.directory("demo", "a|b") / kept.path).read_bytes()
    assert base64.b64encode(picture).decode() in data_uri(SHEET, 85)
    assert shown["report"].url == f"{SERVED_AT}/demo/a/b/{manifest.folders['report'][0].path}"


def test_pictures_carry_their_bytes_where_the_store_is_elsewhere(store, monkeypatch):
    monkeypatch.setattr(type(store.storage), "remote", True)
    _, shown = told(store, Made({"preview": sheet_preview(SHEET), "report": Page("report", "report.html")}))
    assert shown["preview"].md_str == f"![preview]({data_uri(SHEET, 85)})"
    assert Path(shown["report"].path).read_text() == "<p>page</p>"


def test_long_texts_keep_their_pictures(store):
    import pandas as pd

    curve = curve_picture(pd.DataFrame({"step": [1, 2], "loss": [2.0, 1.0], "learning_rate": [1.0, 1.0]}))
    text = f"{curve.text}\n\n{'word ' * 400}\n\n{sheet_preview(SHEET).text}"
    manifest, shown = told(store, Made({"long": Markdown(text)}))
    assert sorted(file.path.split("/")[1] for file in manifest.folders["previews"]) == [
        "long.md",
        "long.svg",
        "long2.webp",
    ]
    assert shown["long"].md_str.count(f"]({SERVED_AT}/demo/a/b/") == 4  # each picture is a link to itself
    assert "data:" not in shown["long"].md_str


def test_a_sample_is_called_one():
    assert sample(12, 19) == "12 of 19 shown"
    assert sample(4, 7, "frames") == "4 of 7 frames shown"
    assert sample(7, 7, "frames") == ""
