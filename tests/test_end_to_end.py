"""The whole graph on a drawn city with a tiny real pipeline and a tiny real segmenter: all phases."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.tiny_pipelines import save_tiny_clip
from tests.toy_run import CLASSES, CROPS, MODEL, ROWS_PER_PART, SEGMENTERS, copied, raw_settings, run


@pytest.mark.slow
def test_from_scenes_to_tables_and_report(tmp_path, toy_run):
    arms = ["real", "zoom_crop", "diffinpainting"]
    given = {"dataset": copied(toy_run, tmp_path), "arms": arms, "segmenters": SEGMENTERS}
    raw = raw_settings(tmp_path, toy_run / MODEL, **given)
    store = run(raw, ROWS_PER_PART)

    crops = store.read_many(CROPS, [f"oakham|{name}" for name in CLASSES])
    windows = store.read_many("diffinpainting/is_cityscapes", [f"oakham|{name}" for name in CLASSES])
    control = store.read_many("zoom_crop/is_cityscapes", [f"oakham|{name}" for name in CLASSES])
    assert len(crops) == len(windows) == len(control) > 4
    assert set(crops["prompt"]) <= {f"a photo of a red {name}" for name in CLASSES}
    assert (windows["ids_sha256"] == control["ids_sha256"]).all()
    assert (windows["image_sha256"] != control["image_sha256"]).any()

    tables = store.folder("evaluation_tables", "all", "tables")
    precision = pd.read_parquet(tables / "average_precision.parquet")
    assert set(precision["arm"]) == {"real", "zoom_crop", "diffinpainting"}
    assert precision[["ap", "ap50"]].stack().between(0, 1).all()
    assert precision.set_index("arm")["samples"].to_dict() == {
        "real": 4,
        "zoom_crop": 4 + len(windows),
        "diffinpainting": 4 + len(windows),
    }
    counts = pd.read_parquet(tables / "table_1.parquet")
    assert len(counts) >= len(CLASSES)
    report = (store.folder("report", "all", "report") / "report.html").read_text()
    assert "a photo of a red car" in report

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "artifacts").rglob("manifest.json")}
    run(raw, ROWS_PER_PART)
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "artifacts").rglob("manifest.json")}


@pytest.mark.slow
def test_an_edited_threshold_calls_no_generator_and_rejected_crops_leave_the_frame_alone(tmp_path, toy_run):
    dataset = copied(toy_run, tmp_path, above=CROPS)
    judge = {"clip": str(save_tiny_clip(tmp_path / "clip")), "fid_features": "clip"}
    arms = ["real", "zoom_crop", "diffinpainting"]
    given = {"dataset": dataset, "arms": arms, "judge": judge}
    store = run(raw_settings(tmp_path, toy_run / MODEL, **given, gates={"spares": 1}))
    keys = [f"oakham|{name}" for name in CLASSES]
    crops = {key: store.require(CROPS, key) for key in keys}
    scores = store.read_many("diffinpainting/crop_quality", keys)
    windows = store.read_many("diffinpainting/is_cityscapes", keys)
    assert len(scores) == 2 * len(windows)
    assert windows["repainted"].all()

    bound = float(scores["change"].median())
    store = run(raw_settings(tmp_path, toy_run / MODEL, **given, gates={"spares": 1, "min_change": bound}))
    assert crops == {key: store.require(CROPS, key) for key in keys}
    windows = store.read_many("diffinpainting/is_cityscapes", keys)
    control = store.read_many("zoom_crop/is_cityscapes", keys)
    rejected = ~windows["repainted"]
    assert windows["rejection"].str.startswith("change").any()
    assert rejected.any()
    assert (windows["ids_sha256"] == control["ids_sha256"]).all()
    assert (windows["image_sha256"] == control["image_sha256"])[rejected].all()
    assert (windows["image_sha256"] != control["image_sha256"])[~rejected].all()
    quality = store.read("image_quality")
    assert quality["crops"].tolist() == [len(windows)]
