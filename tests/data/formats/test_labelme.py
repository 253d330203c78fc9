"""LabelMe's JSON files."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.formats.labelme import read_labelme
from instsynth_dagster.errors import DatasetError
from tests.data.coco_trees import box, picture
from tests.data.opened import SIZE, opened, pixels, rectangle


def shape(label: str, rectangle: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
    points = np.reshape(box(*rectangle), (-1, 2)).tolist()
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}} | more


def write(path: Path, image: str, shapes: list[Any], **more: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {"version": "5.4", "imagePath": image, "imageWidth": 64, "imageHeight": 48, "imageData": None}
    path.write_text(json.dumps(told | {"shapes": shapes} | more))
    return path


def png(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("north/a.jpg", "south/a.jpg"):
        picture(tmp_path / "images" / name, SIZE)
    return tmp_path


def test_shapes_of_all_kinds(root: Path) -> None:
    ring = rectangle(0, 0, 10, 8)[:8, :10] & ~rectangle(3, 3, 5, 5)[:8, :10]
    shapes = [
        shape("polyp", (2, 2, 12, 12)),
        shape("cone", (20, 2, 24, 6), group_id=1),
        shape("cone", (30, 2, 34, 6), group_id=1),
        shape("polyp", (0, 30, 8, 38), flags={"iscrowd": True}),
        {"label": "cone", "points": [[32, 30], [32, 36]], "shape_type": "circle"},
        {"label": "polyp", "points": [[50, 38], [59, 45]], "shape_type": "mask", "mask": png(ring)},
        {"label": "cone", "points": [[1, 1], [5, 5]], "shape_type": "rectangle"},
        {"label": "cone", "points": [[1, 1]], "shape_type": "point"},
        shape("__ignore__", (20, 40, 30, 48)),
        shape("_background_", (40, 20, 44, 24)),
    ]
    write(root / "images/north/a.json", "a.jpg", shapes)
    write(root / "images/south/a.json", "a.jpg", [])
    survey, ids = opened(root, format="labelme", images=str(root / "images"))
    assert survey.labels.classes == ("cone", "polyp")
    found = pixels(survey, ids["north/a"])
    circle = found["cone"].pop()
    assert abs(circle - np.pi * 36) < 6
    assert found == {"polyp": [100, 76], "cone": [32], "polyp group": [64], "void group": [80]}
    assert np.array_equal(ids[("north/a")][38:46, 50:60] == 2001, ring)
    assert pixels(survey, ids["south/a"]) == {}  # of the same name in another folder
    assert "2 annotations have no mask" in "\n".join(survey.notes)


def test_files_beside_the_images_or_elsewhere_with_paths_of_windows(root: Path) -> None:
    write(root / "labels/north.json", "..\\images\\north\\a.jpg", [shape("polyp", (0, 0, 4, 4))])
    write(root / "labels/south.json", "C:\\photos\\south\\a.jpg", [shape("polyp", (0, 0, 5, 5))])
    survey, ids = opened(root, format="labelme", images=str(root / "images"), annotations=str(root / "labels"))
    assert pixels(survey, ids["north/a"]) == {"polyp": [16]}
    assert pixels(survey, ids["south/a"]) == {"polyp": [25]}


@pytest.mark.parametrize(
    ("shapes", "more", "problem"),
    [
        ("none", {}, "it has no list 'shapes'"),
        ([], {"imagePath": ""}, "has no imagePath"),
        ([], {"imageWidth": "64"}, "has the imageWidth '64'"),
        ([{"points": []}], {}, r"shapes\[0\] has no label"),
        ([{"label": "a", "points": [[1]]}], {}, r"shapes\[0\]\.points are no pairs"),
        ([{"label": "a", "points": [[1, 2]], "shape_type": "circle"}], {}, "middle of the circle"),
        ([{"label": "a", "points": [[1, 2]], "shape_type": "mask", "mask": "x"}], {}, "mask is no PNG"),
        ([{"label": "a", "points": [[1, 2]], "shape_type": "mask"}], {}, "mask is no PNG"),
    ],
)
def test_a_broken_file_is_named(root: Path, shapes: Any, more: dict[str, Any], problem: str) -> None:
    write(root / "images/north/a.json", "a.jpg", shapes, **more)
    with pytest.raises(DatasetError, match=problem) as told:
        read_labelme({None: root / "images"}, ImageFolder(root / "images"))
    assert "a.json" in str(told.value)
