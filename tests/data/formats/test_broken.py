"""Annotation files in which any one value is another: they are read, or refused in one line, and nothing else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from instsynth_dagster.data.images import encode_png
from instsynth_dagster.errors import UserError
from tests.data.coco_trees import annotation, box, picture
from tests.data.formats import test_labelme, test_mapillary, test_yolo
from tests.data.opened import SIZE, opened, rectangle

STRANGE = (None, [], {}, "x", "", -1, 2.5, True, [[1]], {"a": 1}, 10**30)


def altered(value: Any) -> Iterator[Any]:
    """The value with each of its parts in turn replaced by something strange, of lists the first; each key left out."""
    if isinstance(value, dict):
        for key in value:
            yield {other: part for other, part in value.items() if other != key}
            yield from ({**value, key: part} for part in altered(value[key]))
    elif isinstance(value, list):
        for index in range(min(len(value), 1)):
            yield from ([*value[:index], part, *value[index + 1 :]] for part in altered(value[index]))
    yield from STRANGE


def coco(root: Path) -> tuple[Path, Any, dict[str, Any]]:
    code = {"size": [48, 64], "counts": [5, 5, 3062]}
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [annotation(1, 1, 1, [box(2, 2, 12, 12)]), annotation(2, 1, 1, code, 1)],
        "categories": [{"id": 1, "name": "cone", "supercategory": "thing", "isthing": 1}],
    }
    return root / "a.json", data, {"format": "coco", "images": "images", "annotations": "a.json"}


def coco_panoptic(root: Path) -> tuple[Path, Any, dict[str, Any]]:
    colours = np.zeros((*SIZE[::-1], 3), np.uint8)
    colours[rectangle(2, 2, 12, 12), 0] = 3
    (root / "a").mkdir()
    (root / "a" / "a.png").write_bytes(encode_png(colours))
    segments = [{"id": 3, "category_id": 1, "iscrowd": 0}]
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [{"id": 1, "name": "cone", "isthing": 1}],
    }
    return root / "a.json", data, {"format": "coco_panoptic", "images": "images", "annotations": "a.json"}


def labelme(root: Path) -> tuple[Path, Any, dict[str, Any]]:
    mask = {"label": "cone", "points": [[1, 1], [4, 4]], "shape_type": "mask", "mask": test_labelme.png(np.eye(4) > 0)}
    circle = {"label": "cone", "points": [[9, 9], [9, 12]], "shape_type": "circle", "group_id": 1}
    path = test_labelme.write(root / "a.json", "images/a.jpg", [mask, circle])
    data = json.loads(path.read_text())
    return path, data, {"format": "labelme", "images": "images", "annotations": "."}


def bdd100k(root: Path) -> tuple[Path, Any, dict[str, Any]]:
    part = {"vertices": [[2, 2], [9, 2], [9, 9], [2, 9]], "types": "LLLL", "closed": True}
    labels = [{"id": "1", "category": "car", "attributes": {"crowd": False}, "poly2d": [part]}]
    size = {"imageSize": {"width": 64, "height": 48}}
    data = {"frames": [{"name": "a.jpg", "labels": labels}], "config": size}
    return root / "a.json", data, {"format": "bdd100k", "images": "images", "annotations": "a.json"}


def mapillary(root: Path) -> tuple[Path, Any, dict[str, Any]]:
    picture(root / "training/images/a.jpg", SIZE)
    test_mapillary.instances(root / "training/instances/a.png")
    return root / "config.json", {"labels": test_mapillary.LABELS}, {"format": "mapillary", "annotations": "."}


def yolo(root: Path) -> tuple[Path, Any, dict[str, Any]]:
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text(test_yolo.line(0, (2, 2, 12, 12)))
    data = {"path": ".", "train": ["images"], "val": None, "names": {0: "cone"}}
    return root / "data.yaml", data, {"format": "yolo", "annotations": "data.yaml"}


@pytest.mark.slow
@pytest.mark.parametrize("made", [coco, coco_panoptic, labelme, bdd100k, mapillary, yolo])
def test_any_value_may_be_another(made: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    picture(Path("images/a.jpg"), SIZE)
    path, data, section = made(Path())
    write = yaml.safe_dump if path.suffix == ".yaml" else json.dumps
    path.write_text(write(data))
    assert opened(Path("local"), **section)[0].instances
    refused, broken = 0, []
    for number, content in enumerate(altered(copy.deepcopy(data))):
        path.write_text(write(content))
        try:
            opened(Path("local", str(number)), **section)
        except UserError:  # of one line, by itself
            refused += 1
        except Exception as error:
            broken.append(f"{content}: {type(error).__name__}: {error}")
    assert broken == []
    assert refused > 10
