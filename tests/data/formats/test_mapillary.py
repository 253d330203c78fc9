"""Mapillary Vistas, both versions of its labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.formats.mapillary import read_mapillary
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.errors import DatasetError, UnreadableError
from tests.data.coco_trees import picture
from tests.data.opened import SIZE, opened, pixels, rectangle

LABELS = [
    {"name": "animal--bird", "readable": "Bird", "instances": True, "evaluate": True, "color": [165, 42, 42]},
    {"name": "nature--sky", "readable": "Sky", "instances": False, "evaluate": True, "color": [70, 130, 180]},
    {"name": "void--ego", "readable": "Ego Vehicle", "instances": False, "evaluate": False, "color": [0, 0, 0]},
    {"name": "object--cone", "readable": "Traffic Cone", "instances": True, "evaluate": True, "color": [1, 2, 3]},
]


def instances(path: Path, extra: int = 0) -> None:
    ids = np.full(SIZE[::-1], 1 * 256, np.uint16)
    ids[rectangle(0, 40, 64, 48)] = 2 * 256
    ids[rectangle(2, 2, 12, 12)] = 0  # the first bird: label 0, instance 0
    ids[rectangle(20, 2, 30, 12)] = 1
    ids[rectangle(40, 2, 50, 12)] = 3 * 256 + extra
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(ids))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "vistas"
    for split in ("training", "validation", "testing"):
        picture(root / split / "images" / "abc_1.jpg", SIZE)
    for split in ("training", "validation"):
        instances(root / split / "v1.2" / "instances" / "abc_1.png")
    (root / "config_v1.2.json").write_text(json.dumps({"labels": LABELS}))
    return root


def test_values_are_label_and_instance_of_256(root: Path) -> None:
    survey, ids = opened(root.parent, format="mapillary", annotations=str(root))
    assert survey.labels.classes == ("Bird", "Traffic Cone")
    assert [label.name for label in survey.labels.stuff] == ["Sky"]
    assert survey.labels["Ego Vehicle"].ignore_in_eval
    assert (survey.train_cities, survey.val_cities) == (("training-images",), ("validation-images",))
    assert pixels(survey, ids["training/images/abc_1"]) == {
        "Bird": [100, 100],
        "Traffic Cone": [100],
        "Sky group": [64 * 40 - 300],
        "Ego Vehicle group": [64 * 8],
    }
    assert "1 image files" in "\n".join(survey.notes)  # of testing; the maps are no images


def test_a_release_with_two_versions_needs_one_named(root: Path) -> None:
    instances(root / "training/v2.0/instances/abc_1.png", extra=9)
    instances(root / "validation/v2.0/instances/abc_1.png", extra=9)
    (root / "config_v2.0.json").write_text(json.dumps({"labels": LABELS}))
    with pytest.raises(DatasetError, match=r"config_v1\.2\.json and config_v2\.0\.json; name one in dataset\.version"):
        read_mapillary(root, ImageFolder(root, "images"))
    survey, _ = opened(root.parent, format="mapillary", annotations=str(root), version="v2.0")
    assert dict(survey.instances) == {"Bird": 2, "Traffic Cone": 1}


def test_the_first_release_keeps_maps_beside_the_images(root: Path) -> None:
    (root / "config_v1.2.json").rename(root / "config.json")
    for split in ("training", "validation"):
        (root / split / "v1.2/instances").rename(root / split / "instances")
    survey, _ = opened(root.parent, format="mapillary", annotations=str(root))
    assert dict(survey.instances) == {"Bird": 2, "Traffic Cone": 1}


def test_broken_files_are_named(root: Path) -> None:
    folder, place = ImageFolder(root, "images"), root / "training/v1.2/instances/abc_1.png"
    place.write_bytes(encode_png(np.zeros((48, 64), np.uint8)))
    with pytest.raises(DatasetError, match="16-bit PNG, this one has mode L"):
        read_mapillary(root, folder)
    place.write_bytes(encode_png(np.full((48, 64), 99 * 256, np.uint16)))
    with pytest.raises(DatasetError, match=r"abc_1\.png: the label 99 is not in .*config_v1\.2\.json"):
        read_mapillary(root, folder)
    (root / "config_v1.2.json").write_text("{}")
    with pytest.raises(DatasetError, match="it has no list 'labels'"):
        read_mapillary(root, folder)
    (root / "config_v1.2.json").unlink()
    with pytest.raises(UnreadableError, match=r"no config\.json or"):
        read_mapillary(root, folder)
