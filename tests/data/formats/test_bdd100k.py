"""BDD100K's bitmasks and JSON labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.formats.bdd100k import read_bdd100k
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.errors import DatasetError, UnreadableError
from tests.data.coco_trees import box, picture
from tests.data.opened import SIZE, opened, pixels, rectangle


def bitmask(path: Path, objects: list[tuple[int, int, int, np.ndarray]]) -> None:
    """Of (category, attributes, number, mask)."""
    pixels = np.zeros((*SIZE[::-1], 4), np.uint8)
    for category, attributes, number, mask in objects:
        pixels[mask] = (category, attributes, number >> 8, number & 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, "RGBA").save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        picture(tmp_path / "images" / split / f"{split}-a.jpg", SIZE)
    return tmp_path


def test_bitmasks_hold_class_attributes_and_number(root: Path) -> None:
    objects = [
        (3, 0b1100, 300, rectangle(2, 2, 12, 12)),  # truncated and occluded
        (3, 0, 44, rectangle(20, 2, 30, 10)),  # 300 & 255
        (1, 0b0010, 5, rectangle(40, 2, 50, 12)),  # a crowd
        (1, 0b0001, 6, rectangle(0, 30, 10, 34)),  # ignored
        (8, 0, 7, rectangle(20, 30, 30, 40)),
    ]
    for split in ("train", "val"):
        bitmask(root / "bitmasks" / split / f"{split}-a.png", objects)
    annotations = {split: str(root / "bitmasks" / split) for split in ("train", "val")}
    survey, ids = opened(root, format="bdd100k", images=str(root / "images"), annotations=annotations)
    assert survey.labels.classes[:2] == ("pedestrian", "rider")
    assert (survey.train_cities, survey.val_cities) == (("train",), ("val",))
    assert pixels(survey, ids["train/train-a"]) == {
        "car": [80, 100],  # by their numbers, 44 before 300
        "pedestrian group": [140],
        "bicycle": [100],
    }


def test_labels_as_codes_polygons_and_curves(root: Path) -> None:
    circle = [[40, 24], [40, 29.5], [35.5, 34], [30, 34], [24.5, 34], [20, 29.5], [20, 24]]
    labels = [
        {"id": "1", "category": "car", "rle": encode_rle(rectangle(2, 2, 12, 12))},
        {"id": "2", "category": "dog", "poly2d": [{"vertices": np.reshape(box(50, 2, 54, 6), (-1, 2)).tolist()}]},
        {"id": "3", "category": "dog", "poly2d": [{"vertices": circle, "types": "LCCCCCC", "closed": True}]},
        {"id": "4", "category": "dog", "box2d": {"x1": 0, "y1": 0, "x2": 4, "y2": 4}},
        {"id": "5", "category": "car", "attributes": {"crowd": True}, "rle": encode_rle(rectangle(0, 40, 4, 44))},
    ]
    path = root / "ins_seg_train.json"
    frames = [{"name": "train-a.jpg", "labels": labels}]
    path.write_text(json.dumps({"frames": frames, "config": {"imageSize": {"width": 64, "height": 48}}}))
    survey, ids = opened(root, format="bdd100k", images=str(root / "images"), annotations=str(path))
    found = pixels(survey, ids["train/train-a"])
    half_disc = found["dog"].pop()
    assert abs(half_disc - np.pi * 50) < 12
    assert found == {"car": [100], "car group": [16], "dog": [16]}
    assert "1 annotations have no mask" in "\n".join(survey.notes)


def test_broken_files_are_named(root: Path) -> None:
    folder, masks = ImageFolder(root / "images"), root / "bitmasks" / "train"
    bitmask(masks / "train-a.png", [(9, 0, 1, rectangle(0, 0, 4, 4))])
    with pytest.raises(DatasetError, match="the class 9 is none of 1 to 8"):
        read_bdd100k({None: masks}, folder)
    Image.new("RGB", SIZE).save(masks / "train-a.png")
    with pytest.raises(DatasetError, match="take bitmasks, not colormaps"):
        read_bdd100k({None: masks}, folder)
    (masks / "train-a.png").unlink()
    with pytest.raises(UnreadableError, match="no bitmask in it"):
        read_bdd100k({None: masks}, folder)
    path = root / "labels.json"
    for content, problem in (
        ("{}", "no list of frames"),
        ('[{"name": "train-a.jpg", "labels": [{}]}]', "has no 'category'"),
        ('[{"name": "train-a.jpg", "labels": [{"category": "a", "poly2d": [{}]}]}]', "no list of vertices"),
    ):
        path.write_text(content)
        with pytest.raises(DatasetError, match=problem):
            read_bdd100k({None: path}, folder)
