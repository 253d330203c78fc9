"""Data sets as they lie about: read-only, linked, turned, in thousands of folders, with ids of any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.errors import DatasetError
from tests.data.coco_trees import annotation, box, picture, write
from tests.data.opened import SIZE, opened, pixels


def coco(root: Path, files: list[str], size: tuple[int, int] = SIZE, **options) -> Path:
    """A COCO file with a cone of 10 x 20 pixels in each image."""
    listed = [(number, file, *size) for number, file in enumerate(files, 1)]
    rows = [annotation(number, number, 1, [box(4, 4, 14, 24)]) for number, *_ in listed]
    return write(root / "annotations.json", listed, rows, **options)


def test_nothing_is_written_into_read_only_data_behind_links(tmp_path: Path) -> None:
    data = tmp_path / "disk"
    for name in ("north/a.jpg", "south/b.jpg"):
        picture(data / "photos" / name, SIZE)
    file = coco(data, ["north/a.jpg", "south/b.jpg"])
    for path in sorted(data.rglob("*"), reverse=True):
        path.chmod(0o555 if path.is_dir() else 0o444)
    data.chmod(0o555)
    before = {path: path.stat().st_mtime_ns for path in (data, *data.rglob("*"))}
    (tmp_path / "images").symlink_to(data / "photos")
    (tmp_path / "linked.json").symlink_to(file)
    section = {"format": "coco", "images": str(tmp_path / "images"), "annotations": str(tmp_path / "linked.json")}
    survey, ids = opened(tmp_path / "local", **section)
    assert survey.train_cities == ("north", "south")
    assert [pixels(survey, found) for found in ids.values()] == [{"cone": [200]}] * 2
    assert {path: path.stat().st_mtime_ns for path in (data, *data.rglob("*"))} == before
    data.chmod(0o755)
    (data / "photos").chmod(0o755)
    for folder in (data / "photos").iterdir():
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("orientation", "annotated", "shape"),
    [
        ("auto", (48, 64), (64, 48)),
        ("auto", (64, 48), (48, 64)),
        ("apply", (48, 64), (64, 48)),
        ("apply", (64, 48), None),
        ("ignore", (64, 48), (48, 64)),
        ("ignore", (48, 64), None),
    ],
)
def test_what_turns_by_exif(tmp_path: Path, orientation: str, annotated: tuple[int, int], shape) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture(tmp_path / "scene.png", SIZE)).convert("RGB").save(_made(tmp_path / "images/a.jpg"), exif=exif)
    file = coco(tmp_path, ["a.jpg"], annotated)
    section = {"format": "coco", "images": str(tmp_path / "images"), "annotations": str(file)}
    if shape is None:
        with pytest.raises(DatasetError, match=r"a\.jpg: .* pixels, EXIF orientation 6, but it is annotated at"):
            opened(tmp_path, **section, orientation=orientation)
    else:
        assert opened(tmp_path, **section, orientation=orientation)[1]["a"].shape == shape


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_category_ids_beyond_sixteen_bits_are_numbered_and_known_by_their_own(tmp_path: Path) -> None:
    picture(tmp_path / "images/a.jpg", SIZE)
    file = coco(tmp_path, ["a.jpg"])
    data = json.loads(file.read_text())
    data["categories"] = [{"id": 70_001, "name": "cone"}, {"id": 0, "name": "dog"}]
    data["annotations"][0]["category_id"] = 70_001
    file.write_text(json.dumps(data))
    survey, ids = opened(tmp_path, format="coco", images=str(tmp_path / "images"), annotations=str(file))
    assert {label.name: (label.id, label.category_id) for label in survey.labels.labels if label.has_instances} == {
        "cone": (1, 70_001),
        "dog": (2, 0),
    }
    assert set(np.unique(ids["a"])) == {0, 1000}


def test_folders_beyond_the_limit_become_buckets_of_whole_folders(tmp_path: Path) -> None:
    files = [f"roll {number:03}/{name}.jpg" for number in range(60) for name in "ab"]
    picture(tmp_path / "one.jpg", SIZE)
    for file in files:
        _made(tmp_path / "images" / file).write_bytes((tmp_path / "one.jpg").read_bytes())
    section = {"format": "coco", "images": str(tmp_path / "images"), "annotations": str(coco(tmp_path, files))}
    survey, ids = opened(tmp_path, **section, max_groups=7, split={"val_fraction": 0.3})
    cities = (*survey.train_cities, *survey.val_cities)
    assert 4 <= len(cities) <= 7
    assert sum(survey.frames.values()) == len(ids) == 120
    assert all(count % 2 == 0 for count in survey.frames.values())
    assert 0.15 < sum(survey.frames[city] for city in survey.val_cities) / 120 < 0.5


def test_images_of_one_folder_are_divided_into_no_more_buckets_than_asked_for(tmp_path: Path) -> None:
    files = [f"{number}.jpg" for number in range(40)]
    for file in files:
        picture(tmp_path / "images" / file, (16, 16))
    section = {
        "format": "coco",
        "images": str(tmp_path / "images"),
        "annotations": str(coco(tmp_path, files, (16, 16))),
    }
    assert len(opened(tmp_path, **section)[0].train_cities) == 8
    assert len(opened(tmp_path, **section, max_groups=3)[0].train_cities) == 3


def test_frames_that_are_left_out_are_not_in_the_index(tmp_path: Path) -> None:
    files = ["a b.png", "grün/ä.png", "c.png"]
    for name in files:
        picture(tmp_path / "images" / name, SIZE)
    section = {
        "format": "coco",
        "images": str(tmp_path / "images"),
        "annotations": str(coco(tmp_path, files)),
        "groups": {"by": "hash", "buckets": 1},
    }
    survey, ids = opened(tmp_path / "local", **section, leave_out=["grün/ä", "c"])
    assert list(ids) == ["a b"]
    assert survey.instances == {"cone": 1}
    with pytest.raises(DatasetError, match=r"dataset\.leave_out: no frame 'd'"):
        opened(tmp_path / "local", **section, leave_out=["d"])
