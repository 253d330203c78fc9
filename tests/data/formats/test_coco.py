"""COCO files as tools write them: what is read, what is left out and said so, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.collected import with_crowds
from instsynth_dagster.data.formats.coco import read_coco
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.errors import DatasetError, UnreadableError
from tests.data.coco_trees import annotation, box, picture, write

SIZE = (64, 48)
IMAGE = (1, "a.jpg", *SIZE)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "north/c d.JPG", "süd/e.png", "south/b.jpg"):
        picture(tmp_path / "images" / name, SIZE)
    return tmp_path / "images"


def read(images: Path, listed, annotations, **options):
    as_instances = options.pop("crowds_are_instances", False)
    file = write(images.parent / "annotations.json", listed, annotations, options.pop("names", ("cone", "dog")))
    return with_crowds(read_coco({None: file}, ImageFolder(images)), as_instances)


def test_polygons_codes_and_crowds_are_taken_as_they_stand(images: Path) -> None:
    code = encode_rle(np.eye(48, 64, dtype=bool))
    runs = {"size": [48, 64], "counts": [3072]}
    found = read(
        images,
        [IMAGE],
        [
            annotation(1, 1, 1, [box(0, 0, 5, 5), box(9, 9, 12, 12)]),
            annotation(2, 1, 2, code),
            annotation(3, 1, 2, runs, crowd=1),
        ],
    )
    objects = found.images[0].objects
    assert [(o.category, o.crowd) for o in objects] == [(1, False), (2, False), (2, True)]
    assert objects[1].segmentation == code
    assert any("1 objects are crowds" in note for note in found.notes)


def test_marks_and_numbers_that_are_written_as_text_mean_what_they_say(images: Path) -> None:
    """As spreadsheets and scripts of one's own write them."""
    marks = ("0", "1", "false", "true", "", 0, 1, None)
    rows = [annotation(str(n), "1", "2", [box(n, 0, n + 5, 5)], mark) for n, mark in enumerate(marks)]
    rows.append({**annotation("99", "1", "1", {"size": [48, 64], "counts": [0, 48, 3024]}, "0"), "ignore": "0"})
    file = images.parent / "text.json"
    categories = [{"id": "1", "name": "cone"}, {"id": "2", "name": "dog", "isthing": "1"}]
    listed = [{"id": "1", "file_name": "a.jpg", "width": 64, "height": 48}]
    file.write_text(json.dumps({"images": listed, "annotations": rows, "categories": categories}))
    found = read_coco({None: file}, ImageFolder(images))
    objects = found.images[0].objects
    assert [o.crowd for o in objects] == [False, True, False, True, False, False, True, False, False]
    assert [(o.category, o.source_id) for o in objects[-2:]] == [(2, 7), (1, 99)]
    assert [(c.id, c.has_instances) for c in found.categories] == [(1, True), (2, True)]
    assert found.images[0].source_id == 1


@pytest.mark.parametrize(
    ("told", "file"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("images/a.jpg", "a.jpg"),
        ("/home/somebody/photos/a.jpg", "a.jpg"),
        ("C:\\photos\\a.jpg", "a.jpg"),
        ("north/c d.JPG", "north/c d.JPG"),
        ("North/c d.jpg", "north/c d.JPG"),
        ("e.png", "süd/e.png"),
        ("south/b.jpg", "south/b.jpg"),
        ("b.jpg", "b.jpg"),
        ("north/b.jpg", "b.jpg"),
        ("nowhere.jpg", None),
        ("../../../etc/passwd", None),
    ],
)
def test_which_file_a_name_means(images: Path, told: str, file: str | None) -> None:
    assert ImageFolder(images).find(told) == file


def test_two_images_of_one_name_in_different_folders_are_two(images: Path) -> None:
    found = read(images, [(1, "b.jpg", *SIZE), (2, "south/b.jpg", *SIZE)], [annotation(1, 2, 1, [box(0, 0, 5, 5)])])
    assert {image.file: len(image.objects) for image in found.images} == {"b.jpg": 0, "south/b.jpg": 1}


def test_what_is_left_out_is_counted_and_said(images: Path) -> None:
    polygon = [box(0, 0, 5, 5)]
    found = read(
        images,
        [IMAGE, (2, "b.jpg", *SIZE), (3, "missing.jpg", *SIZE)],
        [
            annotation(1, 1, 1, polygon),
            annotation(1, 1, 2, polygon),  # an id twice
            annotation(3, 1, 1, polygon),  # a copy of the first
            annotation(4, 99, 1, polygon),  # of no image
            annotation(5, 3, 1, polygon),  # of an image that is not there
            annotation(6, 1, 77, polygon),  # of no category
            annotation(7, 1, 1, []),
            {"id": 8, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5]},
            annotation(9, 1, 1, [[1, 2, 3, 4]]),  # two corners
        ],
    )
    assert [image.file for image in found.images] == ["a.jpg", "b.jpg"]  # b has no annotations and stays
    assert len(found.images[0].objects) == 2
    notes = "\n".join(found.notes)
    for sentence in (
        "1 images of the annotation files are not below the folder",
        "1 annotations belong to no listed image",
        "1 annotations name no listed category",
        "3 annotations have no mask, or only a box",
        "1 annotations are exact copies",
        "1 annotations share an id with another",
        "3 image files below the folder that no annotation file lists are left out",
    ):
        assert sentence in notes


def test_a_file_of_crowds_alone_is_told_as_what_cvat_writes(images: Path) -> None:
    code = encode_rle(np.eye(48, 64, dtype=bool))
    only = [annotation(1, 1, 1, code, crowd=1), annotation(2, 1, 1, code | {"counts": "0"}, crowd=1)]
    found = read(images, [IMAGE], only)
    assert all(o.crowd for o in found.images[0].objects)
    assert "CVAT" in found.notes[-1]
    assert "set dataset.crowds to instances" in found.notes[-1]
    believed = read(images, [IMAGE], only, crowds_are_instances=True)
    assert not any(o.crowd for o in believed.images[0].objects)
    mixed = read(images, [IMAGE], [*only, annotation(3, 1, 1, [box(0, 0, 5, 5)])])
    assert "every run-length code (2)" in mixed.notes[-1]


def test_a_polygon_that_is_not_in_a_list_is_one(images: Path) -> None:
    found = read(images, [IMAGE], [annotation(1, 1, 1, box(0, 0, 5, 5))])
    assert found.images[0].objects[0].segmentation == [box(0, 0, 5, 5)]


def test_roboflows_unused_category_of_the_same_name_is_left_out(images: Path) -> None:
    file = images.parent / "annotations.json"
    categories = [
        {"id": 0, "name": "cones", "supercategory": "none"},
        {"id": 1, "name": "cones", "supercategory": "cones"},
    ]
    data = {
        "images": [{"id": 0, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [annotation(0, 0, 1, [box(0, 0, 5, 5)])],
        "categories": categories,
    }
    file.write_text(json.dumps(data))
    found = read_coco({None: file}, ImageFolder(images))
    assert [(c.id, c.name) for c in found.categories] == [(1, "cones")]
    data["annotations"].append(annotation(1, 0, 0, [box(9, 9, 15, 15)]))
    file.write_text(json.dumps(data))
    found = read_coco({None: file}, ImageFolder(images))
    assert [(c.id, c.name) for c in found.categories] == [(0, "cones 0"), (1, "cones 1")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "has no list 'images'"),
        ('{"images": []}', "has no list 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": [], "categories": []}', r"images\[0\] has no 'file_name'"),
        ('{"images": [], "annotations": [], "categories": [{"id": "x", "name": "a"}]}', "'x' is no whole number"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "category id 1 occurs twice, for 'a' and 'b'",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": [], '
            '"categories": []}',
            "image id 1 occurs twice",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a.jpg", "width": "64"}], "annotations": [], "categories": []}',
            "has the width '64'",
        ),
        ('{"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": [], "categories": []}', "none of the images"),
        ('{"images": [], "annotations": [{"id": 1}], "categories": []}', r"annotations\[0\] has no 'image_id'|none of"),
    ],
)
def test_what_is_no_coco_file_is_refused_in_a_line(images: Path, content: str, problem: str) -> None:
    file = images.parent / "annotations.json"
    file.write_text(content)
    with pytest.raises(DatasetError, match=problem) as told:
        read_coco({None: file}, ImageFolder(images))
    assert "\n" not in str(told.value)


def test_a_missing_file_or_folder_is_named(images: Path, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"no\.json: no such file"):
        read_coco({None: tmp_path / "no.json"}, ImageFolder(images))
    with pytest.raises(UnreadableError, match="no such folder"):
        ImageFolder(tmp_path / "no")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no image in it"):
        ImageFolder(tmp_path / "empty")


def test_an_image_of_both_splits_is_refused(images: Path) -> None:
    train = write(images.parent / "train.json", [IMAGE], [])
    val = write(images.parent / "val.json", [(7, "a.jpg", *SIZE)], [])
    with pytest.raises(DatasetError, match=r"'a\.jpg' stands in train and in val"):
        read_coco({"train": train, "val": val}, ImageFolder(images))


def test_two_files_must_mean_the_same_by_a_category(images: Path) -> None:
    train = write(images.parent / "train.json", [IMAGE], [], names=("cone", "dog"))
    val = write(images.parent / "val.json", [(1, "b.jpg", *SIZE)], [], names=("dog", "cone"))
    with pytest.raises(DatasetError, match="category 1 is 'dog', but 'cone' in another file"):
        read_coco({"train": train, "val": val}, ImageFolder(images))


def test_links_are_followed_and_loops_end(images: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "photos").symlink_to(images)
    (images / "back").symlink_to(images)
    assert "photos/a.jpg" in ImageFolder(linked).files
    assert len([file for file in ImageFolder(images).files if file.endswith("a.jpg")]) == 1


def test_shadows_of_macos_are_passed_over(images: Path) -> None:
    (images / "._a.jpg").write_bytes(b"shadow")
    (images / "__MACOSX").mkdir()
    (images / "__MACOSX" / "a.jpg").write_bytes(b"shadow")
    assert "._a.jpg" not in ImageFolder(images).files
    assert not any("MACOSX" in file for file in ImageFolder(images).files)
