"""Every command and every section `dataset` of docs/data.md, on small data of its format."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from instsynth_dagster.data.images import encode_png
from instsynth_dagster.new import main
from instsynth_dagster.settings import load_settings
from tests.data.coco_trees import annotation, box, garden, picture, write
from tests.data.formats import test_bdd100k, test_cvat, test_labelme, test_mapillary, test_voc, test_yolo
from tests.data.opened import SIZE, opened, rectangle

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text()


def sections() -> dict[str, str]:
    return {text.split("\n", 1)[0]: text for text in DOCS.split("\n## ")[1:]}


def coco() -> None:
    file = garden(Path(), images=6, size=SIZE)
    Path("images").rename("photos")
    for split in ("train", "val"):
        data = json.loads(file.read_text())
        data["images"] = [image for image in data["images"] if (image["id"] % 3 == 0) == (split == "val")]
        Path(f"{split}.json").write_text(json.dumps(data))


def yolo() -> None:
    for split in ("train", "val"):
        picture(Path(f"dataset/images/{split}/{split}.jpg"), SIZE)
        label = Path(f"dataset/labels/{split}/{split}.txt")
        label.parent.mkdir(parents=True)
        label.write_text(test_yolo.line(0, (4, 4, 34, 34)))
    Path("dataset/data.yaml").write_text("train: images/train\nval: images/val\nnames: [cone]\n")


def voc() -> None:
    root = Path("VOCdevkit/VOC2012")
    objects, classes = test_voc.maps()
    for name in ("2007_000001", "2007_000002"):
        picture(root / "JPEGImages" / f"{name}.jpg", SIZE)
        test_voc.palette_png(root / test_voc.OBJECTS / f"{name}.png", objects)
        test_voc.palette_png(root / test_voc.CLASSES / f"{name}.png", classes)


def cvat() -> None:
    picture(Path("photos/site/a b.jpg"), SIZE)
    test_cvat.write(Path(), test_cvat.polygon(2, 2, 30, 30))


def labelme() -> None:
    picture(Path("photos/a.jpg"), SIZE)
    test_labelme.write(Path("labels/a.json"), "../photos/a.jpg", [test_labelme.shape("polyp", (2, 2, 30, 30))])


def mapillary() -> None:
    root = Path("mapillary-vistas")
    for split in ("training", "validation"):
        picture(root / split / "images" / "abc_1.jpg", SIZE)
        test_mapillary.instances(root / split / "v2.0/instances/abc_1.png")
    (root / "config_v2.0.json").write_text(json.dumps({"labels": test_mapillary.LABELS}))


def bdd100k() -> None:
    for split in ("train", "val"):
        picture(Path(f"images/100k/{split}/{split}-a.jpg"), SIZE)
        test_bdd100k.bitmask(Path(f"bitmasks/{split}/{split}-a.png"), [(3, 0, 1, rectangle(2, 2, 30, 30))])


def coco_panoptic() -> None:
    for number, split in enumerate(("train", "val"), 1):
        name = f"{split}-a"
        picture(Path(f"photos/{name}.jpg"), SIZE)
        folder = Path(f"panoptic_{split}2017")
        folder.mkdir()
        colours = np.zeros((*SIZE[::-1], 3), np.uint8)
        colours[rectangle(2, 2, 30, 30), 0] = 7
        (folder / f"{name}.png").write_bytes(encode_png(colours))
        data = {
            "images": [{"id": number, "file_name": f"{name}.jpg", "width": 64, "height": 48}],
            "categories": [{"id": 1, "name": "cone", "isthing": 1}],
            "annotations": [
                {"image_id": number, "file_name": f"{name}.png", "segments_info": [{"id": 7, "category_id": 1}]}
            ],
        }
        Path(f"panoptic_{split}2017.json").write_text(json.dumps(data))


FORMATS: dict[str, Callable[[], None]] = {
    "COCO JSON": coco,
    "YOLO": yolo,
    "Pascal VOC": voc,
    "CVAT": cvat,
    "LabelMe": labelme,
    "Mapillary Vistas": mapillary,
    "BDD100K": bdd100k,
    "COCO panoptic": coco_panoptic,
}


def test_every_format_has_a_section() -> None:
    assert list(FORMATS) == list(sections())[: len(FORMATS)]


@pytest.mark.parametrize("name", FORMATS)
def test_the_commands_and_the_settings_work_as_they_are_written(name: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    FORMATS[name]()
    text = sections()[name].replace("\\\n", " ")
    commands = re.findall(r"^    python -m instsynth_dagster\.new (.+?) > params\.yaml$", text, re.MULTILINE)
    assert commands
    for command in commands:
        main(shlex.split(command))
        Path("params.yaml").write_text(capsys.readouterr().out)
        settings = load_settings(Path("params.yaml"))
        assert settings.classes
        assert settings.dataset.train_cities
    [block] = re.findall(r"^(    dataset:.*(?:\n      .*)*)", text, re.MULTILINE)
    section = yaml.safe_load(block)["dataset"]
    if name == "COCO JSON":  # the line shows both ways to divide
        section.pop("split")
    assert opened(tmp_path / "local", **section)[0].instances


def test_the_sections_of_groups_are_settings(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = [f"{'ab'[number % 2]}_{number}.jpg" for number in range(8)]
    for file in files:
        picture(tmp_path / "photos" / file, (32, 32))
    listed = [(number, file, 32, 32) for number, file in enumerate(files)]
    rows = [annotation(number, number, 1, [box(4, 4, 14, 24)]) for number in range(8)]
    path = write(tmp_path / "annotations.json", listed, rows)
    Path("groups.csv").write_text("file,site\n" + "".join(f"{file},{file[2]}\n" for file in files))
    found = re.findall(r"^    (groups: .+|max_groups: .+)$", sections()["COCO JSON"], re.MULTILINE)
    counts = []
    for line in found:
        section = {"format": "coco", "images": "photos", "annotations": str(path), **yaml.safe_load(line)}
        counts.append(len(opened(tmp_path / "local", **section)[0].train_cities))
    assert counts[:3] == [1, 2, 8]
    assert len(counts) == 5
