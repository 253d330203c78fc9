"""COCO panoptic JSON and its PNGs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.formats.coco_panoptic import read_coco_panoptic
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.errors import DatasetError, UnreadableError
from tests.data.coco_trees import picture
from tests.data.opened import SIZE, opened, pixels, rectangle

CATEGORIES = [
    {"id": 1, "name": "cone", "supercategory": "thing", "isthing": 1},
    {"id": 90, "name": "polyp", "isthing": 1},
    {"id": 200, "name": "grass", "isthing": 0},
]


def segment(number: int, category: int, crowd: int = 0) -> dict[str, int]:
    return {"id": number, "category_id": category, "iscrowd": crowd}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, Any]:
    picture(tmp_path / "images" / "a.jpg", SIZE)
    ids = np.zeros(SIZE[::-1], np.int64)
    for value, mask in (
        (70_000, rectangle(0, 24, 64, 48)),
        (3, rectangle(2, 2, 12, 12)),
        (66_000, rectangle(20, 2, 30, 12)),
        (9, rectangle(40, 30, 50, 40)),
    ):
        ids[mask] = value
    colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    (tmp_path / "panoptic").mkdir()
    (tmp_path / "panoptic" / "a.png").write_bytes(encode_png(colours))
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "a.png",
                "segments_info": [segment(3, 1), segment(66_000, 90), segment(70_000, 200), segment(9, 90, crowd=1)],
            }
        ],
        "categories": CATEGORIES,
    }


def written(folder: Path, data: dict[str, Any]) -> Path:
    path = folder / "panoptic.json"
    path.write_text(json.dumps(data))
    return path


def test_segments_of_things_stuff_and_crowds(tmp_path: Path, data: dict[str, Any]) -> None:
    path = written(tmp_path, data)
    survey, ids = opened(tmp_path, format="coco_panoptic", images=str(tmp_path / "images"), annotations=str(path))
    assert survey.labels.classes == ("cone", "polyp")
    assert [label.name for label in survey.labels.stuff] == ["grass"]
    assert survey.labels.by_id[0].ignore_in_eval  # what nobody labelled is void
    assert pixels(survey, ids["a"]) == {
        "cone": [100],
        "polyp": [100],
        "polyp group": [100],
        "grass group": [64 * 24 - 100],
    }
    assert dict(survey.instances) == {"cone": 1, "polyp": 1}


def test_masks_may_lie_elsewhere(tmp_path: Path, data: dict[str, Any]) -> None:
    (tmp_path / "panoptic").rename(tmp_path / "masks")
    path = written(tmp_path, data)
    section = {"format": "coco_panoptic", "images": str(tmp_path / "images"), "annotations": {"train": str(path)}}
    survey, _ = opened(tmp_path, **section, masks={"train": str(tmp_path / "masks")})
    assert dict(survey.instances) == {"cone": 1, "polyp": 1}
    with pytest.raises(UnreadableError, match="panoptic: no such file or folder"):
        opened(tmp_path, **section)


def test_broken_files_are_named(tmp_path: Path, data: dict[str, Any]) -> None:
    folder, masks = ImageFolder(tmp_path / "images"), {None: tmp_path / "panoptic"}
    rows = data["annotations"][0]["segments_info"]
    data["annotations"][0]["segments_info"] = rows[1:]
    with pytest.raises(DatasetError, match=r"a\.png: holds the segment 3, which .*panoptic\.json does not list"):
        read_coco_panoptic({None: written(tmp_path, data)}, folder, masks)
    data["annotations"][0]["segments_info"] = None
    with pytest.raises(DatasetError, match=r"annotations\[0\] has no 'segments_info'"):
        read_coco_panoptic({None: written(tmp_path, data)}, folder, masks)
    data["annotations"][0]["segments_info"] = rows
    (tmp_path / "panoptic" / "a.png").write_bytes(encode_png(np.zeros((48, 64), np.uint8)))
    with pytest.raises(DatasetError, match="must be RGB"):
        read_coco_panoptic({None: written(tmp_path, data)}, folder, masks)
    (tmp_path / "panoptic" / "a.png").write_bytes(encode_png(np.zeros((40, 64, 3), np.uint8)))
    section = {
        "format": "coco_panoptic",
        "images": str(tmp_path / "images"),
        "annotations": str(written(tmp_path, data)),
    }
    assert opened(tmp_path, **section)[1]["a"].shape == (48, 64)
