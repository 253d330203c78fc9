"""A data set with classes of its own, from its COCO file to an export that trains beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO
from pydantic import TypeAdapter

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.store import UNPARTITIONED, Store
from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.data.images import decode_ids
from instsynth_dagster.data.labels import Label, LabelTable
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.new import main
from instsynth_dagster.settings import Settings, load_settings
from instsynth_dagster.synthesis.export import COCO_JSON, MERGED_JSON
from instsynth_dagster.synthesis.export_formats import PANOPTIC_JSON, PanopticFiles
from jobs import fiftyone
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.data.coco_trees import coco_of_tree, garden, picture
from tests.data.opened import opened
from tests.segmenters.toy import tiny as tiny_segmenter
from tests.tiny_pipelines import save_tiny_inpainting

_FOUND = (folder / "shared/data/street_photos" for folder in Path(__file__).resolve().parents)
PHOTOS = next(filter(Path.is_dir, _FOUND), Path("shared"))


def made(settings: Settings) -> tuple[Store, list[str]]:
    """Refresh everything; the assets that were written."""
    graph = build_graph(settings)
    resources = build_resources(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        assets = build_assets(settings, graph)
        refresh(graph, resources["store"], InThisProcess(assets, resources, instance), lambda _: None)
    return resources["store"], list(graph)


def tiny(path: Path, changes: dict[str, Any]) -> Settings:
    """The settings of a params file that `new` wrote, small enough for a test."""
    raw = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump(raw))
    return load_settings(path)


def test_from_a_coco_file_to_an_export_with_classes_of_its_own(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    file = garden(tmp_path, images=6, size=(96, 128))
    main(["--coco", str(file), "--images", "images"])
    written = capsys.readouterr()
    assert "rare classes" in written.err
    params = tmp_path / "params.yaml"
    params.write_text(written.out)
    assert load_settings(params).integration.window_size == (96, 128)
    model = save_tiny_inpainting(tmp_path / "model")
    generator = {"kind": "diffinpainting", "model": str(model), "size": 32, "steps": 2, "batch_size": 4}
    wanted = {"formats": ["yolo", "coco_panoptic"], "with_original": True}
    changes = {"device": "cpu", "generators": {"tiny": generator}, "arms": ["zoom_crop", "tiny"], "exports": wanted}
    settings = tiny(params, changes)
    settings = settings.model_copy(
        update={"selection": settings.selection.model_copy(update={"min_area": 50, "quota": 2})}
    )
    assert settings.classes == ("traffic cone", "umbrella", "colon polyp")
    assert settings.prompts["umbrella"].templates == ("a photo of an umbrella",)
    assert len(settings.dataset.val_cities) == 1
    store, assets = made(settings)
    assert {"tiny/export", "zoom_crop/export"} <= set(assets)
    window = next(store.iterate("tiny/is_cityscapes", f"{settings.dataset.train_cities[0]}|umbrella"))
    assert window["outside_difference"] == 0
    assert window["prompt"] == "a photo of an umbrella"

    out = tmp_path / "exports" / "mine" / "tiny"
    exported, original = COCO(str(out / COCO_JSON)), json.loads(file.read_text())
    assert exported.dataset["categories"] == original["categories"]
    assert {annotation["category_id"] for annotation in exported.dataset["annotations"]} <= {1, 2, 3}
    assert all(image["synthetic"] for image in exported.dataset["images"])
    for image in exported.dataset["images"]:
        assert Image.open(out / image["file_name"]).size == (image["width"], image["height"]) == (96, 128)
        masks = [exported.annToMask(annotation) for annotation in exported.imgToAnns[image["id"]]]
        assert np.sum(masks, axis=0).max() == 1  # disjoint
    assert not (out / "leftImg8bit").exists()
    check_what_stands_beside(out, exported.dataset, original, set(settings.dataset.train_cities))


def check_what_stands_beside(out: Path, exported: Any, original: Any, cities: set[str]) -> None:
    """The merged file trains with the original ids, and holds no val image; YOLO and panoptic hold the same masks."""
    merged = COCO(str(out / MERGED_JSON)).dataset
    root = (out / "annotations" / merged["info"]["file_names_are_relative_to"]).resolve()
    assert all((root / image["file_name"]).is_file() for image in merged["images"])
    kept = [image for image in merged["images"] if not image["synthetic"]]
    listed = {image["id"]: image["file_name"] for image in original["images"]}
    assert all(image["file_name"] == f"images/{listed[image['id']]}" for image in kept)
    assert {image["file_name"].split("/")[1].replace(" ", "-") for image in kept} == cities
    of_originals = {image["id"] for image in kept}
    by_id = {row["id"]: row for row in original["annotations"] if row["image_id"] in of_originals}
    rows = {row["id"]: row for row in merged["annotations"] if row["image_id"] in of_originals}
    outside = {number for number, row in by_id.items() if min(row["segmentation"][0][::2]) >= 96}
    assert rows.keys() == by_id.keys() - outside
    assert all(rows[number]["segmentation"] == by_id[number]["segmentation"] for number in rows)
    assert all(rows[number]["category_id"] == by_id[number]["category_id"] for number in rows)
    assert len(merged["annotations"]) == len(rows) + len(exported["annotations"])
    survey, yolo = opened(out.parent, format="yolo", annotations=str(out / "data.yaml"))
    panoptic = {"format": "coco_panoptic", "images": str(out), "annotations": str(out / PANOPTIC_JSON)}
    _, segments = opened(out.parent, **panoptic)
    assert len(yolo) == len(segments) == len(exported["images"])
    assert survey.labels.classes == ("traffic cone", "umbrella", "colon polyp")
    areas = sorted(row["area"] for row in exported["annotations"] if not row["iscrowd"])
    for maps, factor in ((yolo, 1000), (segments, 1000)):
        found = [np.unique(ids[ids >= factor], return_counts=True)[1].tolist() for ids in maps.values()]
        assert sorted(area for areas in found for area in areas) == areas


def test_an_edited_annotation_makes_its_own_group_again_and_no_other(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    file = garden(tmp_path, images=6)
    main(["--coco", str(file), "--images", "images"])
    params = tmp_path / "params.yaml"
    params.write_text(capsys.readouterr().out)
    changes = {"device": "cpu", "generators": {}, "arms": ["zoom_crop"], "selection": {"min_area": 50}}
    settings = tiny(params, changes)
    store, _ = made(settings)
    cities = (*settings.dataset.train_cities, *settings.dataset.val_cities)
    before = {city: store.require("frames", city).digest for city in cities}

    data = json.loads(file.read_text())
    city = settings.dataset.train_cities[0]
    number = next(image["id"] for image in data["images"] if image["file_name"].startswith(city.replace("-", " ")))
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != number]
    file.write_text(json.dumps(data))
    monkeypatch.setattr("instsynth_dagster.data.opening._LOOKS_EVERY", 1e-9)
    store, _ = made(load_settings(params))
    after = {name: store.require("frames", name).digest for name in cities}
    assert {name for name in cities if before[name] != after[name]} == {city}


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not here")
def test_real_photographs_as_coco_are_what_they_are_as_a_cityscapes_tree(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {}
    for split in ("train", "val"):
        files[split] = str(tmp_path / f"{split}.json")
        Path(files[split]).write_text(json.dumps(coco_of_tree(PHOTOS, split)))
    raw = {
        "device": "cpu",
        "dataset": {"format": "coco", "images": str(PHOTOS / "leftImg8bit"), "annotations": files},
        "integration": {"window_size": [128, 96]},
        "arms": ["zoom_crop"],
    }
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    settings = load_settings(Path("params.yaml"))
    store, _ = made(settings)
    as_tree = Settings.model_validate(
        {
            "dataset": {"root": PHOTOS, "train_cities": ["photovillage"], "val_cities": ["photoport"]},
            "artifacts": {"root": "tree", "exports": None, "results": "tree-results"},
            "device": "cpu",
            "arms": ["zoom_crop"],
        }
    )
    tree, _ = made(as_tree)
    columns = ["class_name", "area", "x1", "y1", "x2", "y2", "is_group"]
    for ours, theirs in ((settings.dataset.train_cities, "photovillage"), (settings.dataset.val_cities, "photoport")):
        one, two = (s.read("instances", city)[columns] for s, city in ((store, ours[0]), (tree, theirs)))
        assert sorted(one.itertuples(index=False)) == sorted(two.itertuples(index=False))


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


@pytest.mark.parametrize(
    "numbers", [pytest.param([7], id="1 class"), pytest.param(EIGHTY, id="80 classes", marks=pytest.mark.slow)]
)
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


def test_windows_have_the_proportions_of_the_median_image_unless_a_size_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = garden(tmp_path, images=6, size=(96, 128))
    raw = {"dataset": {"format": "coco", "images": "images", "annotations": str(file)}, "arms": ["zoom_crop"]}
    Path("params.yaml").write_text(yaml.safe_dump(raw | {"integration": {"feather": 2.0}}))
    assert load_settings(Path("params.yaml")).integration.window_size == (96, 128)
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    assert load_settings(Path("params.yaml")).integration.window_size == (96, 128)
    Path("params.yaml").write_text(yaml.safe_dump(raw | {"integration": {"window_size": [64, 32]}}))
    assert load_settings(Path("params.yaml")).integration.window_size == (64, 32)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--coco", "annotations.json"], "images: Field required"),
        (["--format", "pascal", "--annotations", "x"], "--format: unknown format; known are"),
        (["--coco", "no.json", "--images", "images"], r"no\.json: no such file"),
    ],
)
def test_new_says_in_one_line_what_it_lacks(tmp_path, monkeypatch, arguments, problem: str) -> None:
    monkeypatch.chdir(tmp_path)
    garden(tmp_path, images=2)
    with pytest.raises(SystemExit, match=problem):
        main(arguments)


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


def test_panoptic_data_with_stuff_come_out_as_they_went_in(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    void, cone, grass = (
        Label("unlabeled", 0, False, True, (0, 0, 0)),
        Label("traffic cone", 1, True, False, (255, 90, 0)),
        Label("grass", 200, False, False, (0, 160, 0)),
    )
    labels = LabelTable((void, cone, grass))
    written = PanopticFiles(Path("data"), labels)
    for number in range(3):
        ids = np.full((64, 96), 200, np.int32)
        ids[:20], ids[20:44, 10:40], ids[30:60, 50:80] = 0, 1000, 1001
        picture(Path(f"data/images/{number}.jpg"), (96, 64), seed=number)
        written.add(f"images/{number}.jpg", ids)
    written.finish()
    raw = {
        "device": "cpu",
        "dataset": {"format": "coco_panoptic", "images": "data/images", "annotations": f"data/{PANOPTIC_JSON}"},
        "selection": {"min_area": 50},
        "integration": {"window_size": [96, 64]},
        "arms": ["zoom_crop"],
        "exports": {"formats": ["coco_panoptic"]},
    }
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    settings = load_settings(Path("params.yaml"))
    assert [label.name for label in settings.labels.stuff] == ["grass"]
    store, _ = made(settings)
    exported = json.loads((Path("exports/zoom_crop") / PANOPTIC_JSON).read_text())
    assert [(c["id"], c["isthing"]) for c in exported["categories"]] == [(1, 1), (200, 0)]
    windows = store.read_many("zoom_crop/is_cityscapes", [f"{c}|traffic cone" for c in settings.dataset.train_cities])
    for row, ids_png in zip(exported["annotations"], windows["ids_png"], strict=True):
        values, areas = np.unique(decode_ids(ids_png), return_counts=True)
        expected = [(1 if v >= 1000 else v, a) for v, a in zip(values.tolist(), areas.tolist(), strict=True) if v]
        assert sorted((s["category_id"], s["area"]) for s in row["segments_info"]) == sorted(expected)
        assert {category for category, _ in expected} == {1, 200}
    classes = json.loads((Path("exports/zoom_crop") / COCO_JSON).read_text())["categories"]
    assert classes == [{"id": 1, "name": "traffic cone"}]
