"""A data set without anybody in it: what is exported, what it trains, and what stops it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import distance_transform_edt

import instsynth_dagster.synthesis.anonymise as anonymise
from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, list_frames, read_frame, write_frame
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.synthesis.anonymised_export import RECORD
from tests.assets.test_coco_data import made
from tests.assets.test_graph import CITIES
from tests.data.coco_trees import garden
from tests.jobs.test_partial import Spied
from tests.tiny_pipelines import save_tiny_inpainting

CLASSES = ["person", "motorcycle"]
SECTION = {"generator": "diffinpainting", "classes": CLASSES, "dilation": 2, "min_area": 100}
HIDDEN = [24, 32]


def project(root: Path, monkeypatch: pytest.MonkeyPatch) -> Spied:
    found = Spied(root, monkeypatch)
    for city, split in CITIES.items():
        folder = root / "data" / "leftImg8bit" / split / city
        for path in folder.iterdir():  # no noise at the top: a frame with a small person and one without people
            name = path.name.removesuffix("_leftImg8bit.png")
            frame = next(frame for frame in list_frames(root / "data", city) if frame.frame_id == name)
            image, ids = (array.copy() for array in read_frame(frame))
            ids[50:54, 2:6] = 24001
            write_frame(root / "data", split, name, image, ids)
    prompts = {name: found.raw["prompts"][name] for name in CLASSES}
    found.raw |= {"classes": CLASSES, "prompts": prompts, "anonymise": SECTION, "arms": ["real", "anonymised"]}
    return found


@pytest.mark.slow
def test_the_whole_data_set_is_exported_without_a_hidden_pixel_and_with_its_labels(tmp_path, monkeypatch) -> None:
    tried = project(tmp_path, monkeypatch)
    tried.edited(gates={"spares": 1, "min_change": 0.0})
    source, out = tmp_path / "data", tmp_path / "exports/anonymised"
    assert not (tmp_path / "exports/diffinpainting").exists()
    for city, split in CITIES.items():
        for before, after in zip(list_frames(source, city), list_frames(out, city), strict=True):
            assert after.split == split
            image, ids = read_frame(before)
            shown, _ = read_frame(after)
            hidden = np.isin(CITYSCAPES.label_ids(ids), HIDDEN)
            region = distance_transform_edt(~hidden) <= 2
            np.testing.assert_array_equal(shown[~region], image[~region])
            equal = (shown == image).all(axis=2)[region]
            assert equal.mean() < 0.01  # noise: one in sixteen million by chance, some more at blunt edges
    labels = {path.relative_to(source): path.read_bytes() for path in (source / "gtFine").rglob("*") if path.is_file()}
    assert labels == {name: (out / name).read_bytes() for name in labels}
    record = list(csv.DictReader((out / RECORD).open()))
    assert len(record) == 6 * 4
    assert {row["how"] for row in record} == {"repainted", "pixelated"}
    assert {row["why"] for row in record} >= {"", "a group", "too small"}
    assert tried.painted.keys() == set(CLASSES)

    store = tried.store
    samples = store.read("training_sets", "anonymised")
    assert samples["source"].tolist() == ["anonymised"] * 4
    real = store.read("training_sets", "real")
    counts = [column for column in real if column.startswith("instances_")]
    assert samples[counts].equals(real[counts])
    tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    assert set(pd.read_parquet(tables / "average_precision.parquet")["arm"]) == {"real", "anonymised"}
    first = pd.read_parquet(tables / "table_1.parquet").set_index(["arm", "class_name"])
    assert first.loc[("anonymised", "total"), "original"] == first.loc[("real", "total"), "original"] > 0

    assert tried.edited() == {}
    # a threshold calls no generator; what it rejects is pixelated
    edited = tried.edited(gates={"spares": 1, "min_change": 1.0})
    assert not tried.painted
    assert {"anonymised/frames", "anonymised/export", "trained_segmenters"} <= set(edited)
    assert {row["how"] for row in csv.DictReader((out / RECORD).open())} == {"pixelated"}


@pytest.mark.slow
def test_an_export_in_which_something_survives_is_not_written(tmp_path, monkeypatch) -> None:
    tried = project(tmp_path, monkeypatch)
    tried.raw |= {"segmenters": {}, "arms": ["real"], "judge": None}
    monkeypatch.setattr(anonymise, "coarsened", lambda image, parts, settings: image.copy())
    with pytest.raises(dg.Failure, match=r"nothing_survives: .*\(person\): \d+ adjacent pixels equal the source"):
        tried.edited()
    assert not list((tmp_path / "exports").rglob("*.png"))
    monkeypatch.undo()
    tried.edited(anonymise=SECTION | {"otherwise": "blur"})
    assert (tmp_path / "exports/anonymised" / RECORD).exists()


@pytest.mark.slow
def test_frames_that_were_interrupted_come_out_the_same(tmp_path, monkeypatch) -> None:
    from tests.assets.test_resumed import Reports

    reports = Reports(monkeypatch)
    digests = []
    for name in ("whole", "disturbed"):
        tried = project(tmp_path / name, monkeypatch)
        tried.raw |= {"segmenters": {}, "arms": ["real"], "judge": None}
        if name == "disturbed":
            for asset in ("anonymised/selected_instances", "anonymised/inpainted_crops", "anonymised/frames"):
                reports.stop_in = asset
                with pytest.raises(dg.Failure, match="stopped"):
                    tried.edited()
        tried.edited()
        digests.append([tried.store.require("anonymised/frames", city).digest for city in CITIES])
    assert digests[0] == digests[1]
    assert reports.resumed >= {"anonymised/selected_instances", "anonymised/inpainted_crops", "anonymised/frames"}


@pytest.mark.slow
def test_annotated_photographs_keep_their_annotations_and_lose_addresses(tmp_path, monkeypatch) -> None:
    from instsynth_dagster.settings import Settings
    from instsynth_dagster.settings.resolving import fill_in_from_data

    monkeypatch.chdir(tmp_path)
    file = garden(tmp_path, images=6, size=(96, 128))
    raw = json.loads(file.read_text())
    for image in raw["images"]:
        image["coco_url"] = "http://127.0.0.1/the-very-picture.jpg"
    file.write_text(json.dumps(raw))
    model = save_tiny_inpainting(tmp_path / "model")
    hidden = sorted({row["name"] for row in raw["categories"]})[:1]
    settings = Settings.model_validate(
        fill_in_from_data(
            {
                "device": "cpu",
                "dataset": {
                    "format": "coco",
                    "images": "images",
                    "annotations": file.name,
                    "split": {"val_fraction": 0.3},
                },
                "generators": {"g": {"kind": "diffinpainting", "model": str(model), "size": 32, "steps": 1}},
                "anonymise": {"generator": "g", "classes": hidden},
                "arms": ["real"],
            }
        )
    )
    store, _ = made(settings)
    out = tmp_path / "exports/anonymised"
    written = json.loads((out / "annotations/instances.json").read_text())
    assert written["annotations"] == raw["annotations"]
    assert written["categories"] == raw["categories"]
    assert "the-very-picture" not in (out / "annotations/instances.json").read_text()
    for image in written["images"]:
        assert decode_png((out / "images" / image["file_name"]).read_bytes()).shape == (
            image["height"],
            image["width"],
            3,
        )
    assert len(written["images"]) == len(raw["images"])
    again = Settings.model_validate(
        fill_in_from_data(
            {
                "artifacts": {"root": "again/artifacts", "exports": "again/exports", "results": "again/results"},
                "dataset": {
                    "format": "coco",
                    "images": str(out / "images"),
                    "annotations": str(out / "annotations/instances.json"),
                    "split": {"val_fraction": 0.3},
                },
                "arms": ["real"],
            }
        )
    )
    assert again.classes == settings.classes
    assert again.dataset.val_cities == settings.dataset.val_cities
    assert store.require("anonymised/export").summary["frames"] == len(written["images"])
