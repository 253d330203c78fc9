"""YOLO's data.yaml and label files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.formats.yolo import label_file, read_yolo
from instsynth_dagster.errors import DatasetError, UnreadableError
from tests.data.coco_trees import box, picture
from tests.data.opened import SIZE, opened, pixels, rectangle


def line(number: int, *rectangles: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> str:
    corners = [value for r in rectangles for value in box(*r)]
    return " ".join([str(number), *(f"{v / size[i % 2]:.6f}" for i, v in enumerate(corners))])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """As Ultralytics has it: images/<split> beside labels/<split>."""
    root = tmp_path / "yolo"
    for split, name in (("train", "a"), ("train", "b c"), ("val", "d")):
        picture(root / "images" / split / f"{name}.jpg", SIZE)
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
    (root / "labels/train/a.txt").write_text(
        "\n".join([line(0, (4, 4, 14, 14)), line(1, (10, 10, 40, 40)), "1 0.5 0.5 0.1 0.1", ""])
    )
    (root / "labels/val/d.txt").write_text(line(1, (-10, -10, 10, 10)))
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: cone, 1: colon polyp}\n")
    return root


def test_polygons_are_drawn_at_the_size_of_their_image_and_divided_by_the_yaml(root: Path) -> None:
    survey, ids = opened(root.parent, format="yolo", annotations=str(root / "data.yaml"))
    assert survey.labels.classes == ("cone", "colon polyp")
    assert [category["id"] for category in survey.categories] == [0, 1]
    assert (survey.train_cities, survey.val_cities) == (("images-train",), ("images-val",))
    assert pixels(survey, ids["images/train/a"]) == {"cone": [100], "colon polyp": [900 - 16]}
    assert pixels(survey, ids["images/train/b c"]) == {}
    assert pixels(survey, ids["images/val/d"]) == {"colon polyp": [100]}
    assert np.array_equal(ids["images/train/a"] == 1000, rectangle(4, 4, 14, 14))
    notes = "\n".join(survey.notes)
    assert "1 annotations have no mask, or only a box" in notes
    assert "1 images have no label file" in notes


def test_shares_are_of_the_image_as_it_is_shown(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.open(root / "images/train/a.jpg").transpose(Image.Transpose.ROTATE_90)
    stored.save(root / "images/train/a.jpg", exif=exif)
    survey, ids = opened(root.parent, format="yolo", annotations=str(root / "data.yaml"))
    assert pixels(survey, ids["images/train/a"]) == {"cone": [100], "colon polyp": [884]}
    _, ids = opened(root.parent, format="yolo", annotations=str(root / "data.yaml"), orientation="ignore")
    assert ids["images/train/a"].shape == (64, 48)


def test_roboflows_folders_and_a_list_of_files(root: Path) -> None:
    (root / "images/train").rename(root / "train")
    (root / "train" / "a.jpg").parent.joinpath("images").mkdir()
    for name in ("a", "b c"):
        (root / "train" / f"{name}.jpg").rename(root / "train/images" / f"{name}.jpg")
    (root / "labels/train").rename(root / "train/labels")
    (root / "val.txt").write_text("./images/val/d.jpg\n")
    (root / "data.yaml").write_text("train: ../train/images\nval: val.txt\nnc: 2\nnames: ['cone', 'colon polyp']\n")
    survey, ids = opened(root.parent, format="yolo", annotations=str(root / "data.yaml"))
    assert pixels(survey, ids["train/images/a"]) == {"cone": [100], "colon polyp": [884]}
    assert pixels(survey, ids["images/val/d"]) == {"colon polyp": [100]}


def test_where_labels_lie() -> None:
    assert label_file(Path("/data/images/x/images/train/a.b.jpg")) == Path("/data/images/x/labels/train/a.b.txt")
    assert label_file(Path("train/a.jpg")) == Path("train/a.txt")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("7 0 0 0 1 1 1", r"a\.txt, line 1: names has no class 7"),
        ("0.5 0 0 0 1 1 1", "names has no class 0.5"),
        ("0 0 0 0 1 1 1 1", "7 coordinates make no polygon"),
        ("0 0 0 0 1 1 x", "not a class number and coordinates"),
        ("0 10 10 20 10 20 20", "these look like pixels"),
        ("0 0 0 nan 1 1 1", "these look like pixels"),
    ],
)
def test_a_broken_line_is_named(root: Path, content: str, problem: str) -> None:
    (root / "labels/train/a.txt").write_text(content)
    with pytest.raises(DatasetError, match=problem):
        read_yolo(root / "data.yaml", ImageFolder(root))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("a: [", "not valid YAML"),
        ("names: [a]", "names no folder 'train'"),
        ("train: images/train", "names must be a list"),
        ("train: nowhere\nnames: [a]", "names 'nowhere', but there is no"),
        ("train: ..\nnames: [a]", "not below"),
    ],
)
def test_a_broken_yaml_is_named(root: Path, content: str, problem: str) -> None:
    (root / "data.yaml").write_text(content)
    with pytest.raises((DatasetError, UnreadableError), match=problem) as told:
        read_yolo(root / "data.yaml", ImageFolder(root))
    assert "\n" not in str(told.value)
