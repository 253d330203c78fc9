"""A data set with classes of its own, from its COCO file to an export that trains beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import yaml
from PIL import Image
from pycocotools.coco import COCO

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.images import decode_ids
from instsynth_dagster.data.labels import Label, LabelTable
from instsynth_dagster.new import main
from instsynth_dagster.settings import Settings, load_settings
from instsynth_dagster.synthesis.export import COCO_JSON, MERGED_JSON
from instsynth_dagster.synthesis.export_formats import PANOPTIC_JSON, PanopticFiles
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.data.coco_trees import coco_of_tree, garden, picture
from tests.data.opened import opened
from tests.tiny_pipelines import save_tiny_inpainting

_FOUND = (folder / "shared/data/street_photos" for folder in Path(__file__).resolve().parents)
PHOTOS = next(filter(Path.is_dir, _FOUND), Path("shared"))


def made(settings: Settings, last: str = "") -> tuple[Store, list[str]]:
    """Refresh everything, or what comes no later than the asset `last`; the assets that were written."""
    graph = build_graph(settings)
    resources = build_resources(settings)
    with dg.DagsterInstance.ephemeral() as instance:
        assets = build_assets(graph)
        if last:
            graph = {key: graph[key] for key in list(graph)[: list(graph).index(last) + 1]}
        refresh(graph, resources["store"], InThisProcess(assets, resources, instance), lambda _: None)
    return resources["store"], list(graph)


def tiny(path: Path, changes: dict[str, Any]) -> Settings:
    """The settings of a params file that `new` wrote, small enough for a test."""
    raw = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump(raw))
    return load_settings(path)


@pytest.mark.slow
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


@pytest.mark.slow
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
    monkeypatch.setattr("instsynth_dagster.data.opening._CHECK_SECONDS", 1e-9)
    store, _ = made(load_settings(params))
    after = {name: store.require("frames", name).digest for name in cities}
    assert {name for name in cities if before[name] != after[name]} == {city}


@pytest.mark.slow
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
    tree, _ = made(as_tree, last="instances")
    columns = ["class_name", "area", "x1", "y1", "x2", "y2", "is_group"]
    for ours, theirs in ((settings.dataset.train_cities, "photovillage"), (settings.dataset.val_cities, "photoport")):
        one, two = (s.read("instances", city)[columns] for s, city in ((store, ours[0]), (tree, theirs)))
        assert sorted(one.itertuples(index=False)) == sorted(two.itertuples(index=False))


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


@pytest.mark.slow
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
