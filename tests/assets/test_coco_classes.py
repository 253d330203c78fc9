"""Classes of a data set of its own: one, eighty, ids with gaps or of four digits, a label table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import TypeAdapter

from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.new import main
from instsynth_dagster.settings import Settings, load_settings
from instsynth_dagster.synthesis.export import COCO_JSON
from jobs import fiftyone
from tests.assets.test_coco_data import made
from tests.data.coco_trees import garden
from tests.segmenters.toy import tiny as tiny_segmenter


@pytest.mark.slow
def test_labels_of_four_digits_and_more_than_999_of_a_class_in_an_image(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = garden(tmp_path, images=6)
    data = json.loads(file.read_text())
    for category in data["categories"]:
        category["id"] += 4000
    for row in data["annotations"]:
        row["category_id"] += 4000
    dots = [
        {"id": 9000 + n, "image_id": 1, "category_id": 4002, "iscrowd": 0, "segmentation": [square(n)]}
        for n in range(1100)
    ]
    file.write_text(json.dumps(data | {"annotations": data["annotations"] + dots}))
    raw = {"dataset": {"format": "coco", "images": "images", "annotations": str(file)}, "arms": ["zoom_crop"]}
    raw |= {"device": "cpu", "selection": {"min_area": 50, "quota": 1}, "integration": {"window_size": [64, 64]}}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    settings = load_settings(Path("params.yaml"))
    assert settings.labels.factor == 10_000
    store, _ = made(settings)
    windows = store.read_many("zoom_crop/is_cityscapes", [f"{c}|umbrella" for c in settings.dataset.train_cities])
    assert windows["label_id"].eq(4002).all()
    exported = json.loads((Path("exports") / "zoom_crop" / COCO_JSON).read_text())
    assert {row["category_id"] for row in exported["annotations"]} <= {4001, 4002, 4003}


def square(number: int) -> list[int]:
    x, y = 2 * (number % 60), 2 * (number // 60)
    return [x, y, x + 1, y, x + 1, y + 1, x, y + 1]


def of_categories(root: Path, numbers: list[int], images: int = 6) -> Path:
    """The garden's photos as a COCO file with categories of these ids, which its objects have in turn."""
    data = json.loads(garden(root, images=images).read_text())
    rows = [row | {"category_id": numbers[row["id"] % len(numbers)]} for row in data["annotations"]]
    categories = [{"id": number, "name": f"polyp {number}"} for number in numbers]
    path = root / "annotations.json"
    path.write_text(json.dumps(data | {"annotations": rows, "categories": categories}))
    return path


EIGHTY = [number for number in range(1, 91) if number % 9 != 4]
"""Ids with gaps, as COCO's own."""


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [pytest.param([7], id="1 class"), pytest.param(EIGHTY, id="80 classes")])
def test_few_and_many_classes_are_trained_and_scored_by_cocos_protocol(tmp_path, monkeypatch, numbers) -> None:
    monkeypatch.chdir(tmp_path)
    file = of_categories(tmp_path, numbers, images=4 if len(numbers) == 1 else 54)
    recipe = tiny_segmenter(steps=1).model_dump(exclude_unset=True)
    raw = {
        "device": "cpu",
        "dataset": {
            "format": "coco",
            "images": "images",
            "annotations": str(file),
            "groups": {"by": "folder"},
            "split": {"val_groups": ["site 2"]},
        },
        "classes": [f"polyp {number}" for number in numbers],
        "selection": {"min_area": 50, "quota": 1},
        "integration": {"window_size": [96, 64]},
        "arms": ["real", "zoom_crop"] if len(numbers) == 1 else ["real"],
        "segmenters": {"m": recipe},
    }
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    settings = load_settings(Path("params.yaml"))
    assert len(settings.classes) == len(numbers)
    assert settings.labels.factor == 1000
    store, _ = made(settings)
    tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    table = pd.read_parquet(tables / "average_precision.parquet")
    assert table["instances"].eq(len(json.loads(file.read_text())["annotations"]) // 3).all() or len(numbers) == 1
    assert "Cityscapes AP" in (tables / "average_precision.md").read_text()
    assert (store.folder("report", UNPARTITIONED, "report") / "report.html").stat().st_size > 10_000
    browse(settings, len(numbers) == 1)
    found = store.require("segmentation_scores", "real-s0|m").summary
    assert found["ap"] == pytest.approx(float(table["coco_ap"].iloc[0]))


def browse(settings: Settings, windows: bool) -> None:
    """All frames, windows and predictions are in the COCO JSON that is written where FiftyOne is not installed."""
    fiftyone.main(["--coco"])
    folder = settings.artifacts.results / "fiftyone"
    data = json.loads((folder / "annotations.json").read_text())
    listed = json.loads(Path("annotations.json").read_text())["images"]
    synthetic = [image for image in data["images"] if image["synthetic"]]
    assert len(data["images"]) - len(synthetic) == len(listed)
    assert bool(synthetic) == windows
    assert all(image["source"] for image in synthetic)
    root = (folder / data["info"]["file_names_are_relative_to"]).resolve()
    assert all((root / image["file_name"]).is_file() for image in data["images"])
    predicted = json.loads((folder / "predictions_real-s0_m.json").read_text())
    assert {row["image_id"] for row in predicted} <= {image["id"] for image in data["images"] if image["tag"] == "val"}


@pytest.mark.slow
def test_eighty_classes_make_windows_of_each(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = EIGHTY
    file = of_categories(tmp_path, numbers, images=27)
    dataset = {"format": "coco", "images": "images", "annotations": str(file), "groups": {"by": "hash", "buckets": 1}}
    raw = {"device": "cpu", "dataset": dataset, "selection": {"min_area": 50, "quota": 1}, "arms": ["zoom_crop"]}
    Path("params.yaml").write_text(yaml.safe_dump(raw | {"integration": {"window_size": [32, 32]}}))
    settings = load_settings(Path("params.yaml"))
    assert len(settings.classes) == 80
    store, _ = made(settings)
    [city] = settings.dataset.train_cities
    windows = store.read_many("zoom_crop/is_cityscapes", [f"{city}|{name}" for name in settings.classes])
    assert windows["class_name"].nunique() == 80
    exported = json.loads((Path("exports") / "zoom_crop" / COCO_JSON).read_text())
    assert [category["id"] for category in exported["categories"]] == numbers
    assert {row["category_id"] for row in exported["annotations"]} == set(numbers)


@pytest.mark.slow
def test_a_tree_with_a_label_table_of_its_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [("unlabeled", 0, False, True), ("bowel", 1, False, False), ("polyp", 44, True, False)]
    names = ("name", "id", "has_instances", "ignore_in_eval")
    table = {"labels": [dict(zip(names, row, strict=True)) | {"color": [0, 0, row[1]]} for row in rows], "factor": 1000}
    labels = TypeAdapter(LabelTable).validate_python(table)
    for number in range(3):
        ids = np.full((64, 96), 1, np.int32)
        ids[20:40, 10:40], ids[40:60, 50:80] = 44_000, 44_001
        pixels = np.random.default_rng(number).integers(0, 255, (64, 96, 3), dtype=np.uint8)
        write_frame(Path("data"), "train", f"clinic_{number:06}_000000", pixels, ids, labels)
    raw = {"dataset": {"root": "data", "train_cities": ["clinic"]}, "label_table": table, "device": "cpu"}
    raw |= {"selection": {"min_area": 50}, "arms": ["zoom_crop"], "integration": {"window_size": [96, 64]}}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    settings = load_settings(Path("params.yaml"))
    assert settings.classes == ("polyp",)
    assert settings.prompts["polyp"].templates == ("a photo of a polyp",)
    store, _ = made(settings)
    assert store.read("instances", "clinic")["value"].tolist() == [44_000, 44_001] * 3
    exported = json.loads((Path("exports") / "zoom_crop" / COCO_JSON).read_text())
    assert [category["name"] for category in exported["categories"]] == ["polyp"]
    assert {row["category_id"] for row in exported["annotations"]} == {44}


def test_annotation_files_bring_their_labels(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = garden(tmp_path, images=2)
    raw = {"dataset": {"format": "coco", "images": "images", "annotations": str(file)}, "label_table": {"labels": []}}
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SettingsError, match="label_table: the annotation files say what the labels are"):
        load_settings(Path("params.yaml"))


def test_new_tells_of_tiny_objects_and_of_many_classes(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    numbers = EIGHTY
    file = of_categories(tmp_path, numbers, images=33)
    data = json.loads(file.read_text())
    data["annotations"][0]["segmentation"] = [square(0)]
    data["annotations"][1] |= {"iscrowd": 1, "segmentation": {"size": [120, 160], "counts": [0, 400, 18800]}}
    for image in data["images"]:
        Path("images", image["file_name"].replace("/", "_")).write_bytes(
            Path("images", image["file_name"]).read_bytes()
        )
        image["file_name"] = image["file_name"].replace("/", "_")
    file.write_text(json.dumps(data))
    main(["--coco", str(file), "--images", "images"])
    written = capsys.readouterr()
    assert "1 objects are crowds" in written.err  # of COCO's own kind: a code among polygons
    assert "1 of 98 objects cover fewer than 300 pixels" in written.err
    assert "8 groups of images are made 4 (max_groups)" in written.err
    assert "rare classes, of fewer than 10 objects" in written.err
    assert "more\n" in written.err
    Path("params.yaml").write_text(written.out)
    dataset = load_settings(Path("params.yaml")).dataset
    assert (len(dataset.train_cities), len(dataset.val_cities)) == (3, 1)
