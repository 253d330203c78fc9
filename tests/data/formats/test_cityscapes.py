"""Cityscapes in and out; every kind of bad input gets one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.helpers.labels import labels as official
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from instsynth_dagster.data.formats.cityscapes import (
    CITYSCAPES,
    Frame,
    list_frames,
    read_frame,
    read_ids,
    read_image,
    write_frame,
)
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.errors import DatasetError

FRAME = "aachen_000000_000019"


@pytest.fixture
def ids() -> np.ndarray:
    ids = np.full((40, 60), 7, np.int32)
    ids[:12] = 23
    ids[20:30, 5:15] = 26001
    ids[22:28, 40:50] = 32000
    ids[15:18, 20:24] = ids[30:33, 20:24] = 24000
    ids[35:38, 50:60] = 24
    return ids


@pytest.fixture
def tree(tmp_path: Path, ids: np.ndarray) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (*ids.shape, 3), dtype=np.uint8)
    write_frame(tmp_path, "train", FRAME, image, ids)
    return tmp_path


def paths(root: Path) -> Frame:
    return list_frames(root, "aachen")[0]


def test_the_label_table_is_the_official_one():
    ours = {label.name: label for label in CITYSCAPES.labels}
    for theirs in official:
        if theirs.id >= 0:
            mine = ours.pop(theirs.name)
            assert (mine.id, mine.has_instances, mine.ignore_in_eval, mine.color) == (
                theirs.id,
                theirs.hasInstances,
                theirs.ignoreInEval,
                theirs.color,
            )
    assert not ours
    assert CITYSCAPES.classes == ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


def test_what_is_written_reads_back(tree, ids):
    frame = paths(tree)
    assert (frame.split, frame.city, frame.frame_id) == ("train", "aachen", FRAME)
    image, read = read_frame(frame)
    np.testing.assert_array_equal(read, ids)
    assert read.dtype == np.int32
    assert image.shape == (40, 60, 3)
    stored = cv2.imread(str(frame.ids).replace("instanceIds", "labelIds"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(stored, CITYSCAPES.label_ids(ids))


def test_the_official_scripts_load_the_polygons(tree, ids):
    frame = paths(tree)
    annotation = Annotation()
    annotation.fromJsonFile(str(frame.ids).replace("instanceIds.png", "polygons.json"))
    labels = [item.label for item in annotation.objects]
    assert labels.count("person") == 1
    assert labels.count("persongroup") == 2
    canvas = np.zeros(ids.shape, np.uint8)
    for item in annotation.objects:
        if item.label == "car":
            cv2.fillPoly(canvas, [np.array([(p.x, p.y) for p in item.polygon], np.int32)], 1)
    np.testing.assert_array_equal(canvas.astype(bool), ids == 26001)


def test_the_index(ids):
    index = instance_index(ids, labels=CITYSCAPES).set_index("value")
    assert index.loc[26001, ["x1", "y1", "x2", "y2", "area"]].tolist() == [5, 20, 15, 30, 100]
    assert index.loc[24000, "components"] == 2
    assert index.loc[32000, "class_name"] == "motorcycle"
    assert index["is_group"].to_dict() == {24: True, 24000: False, 26001: False, 32000: False}
    assert index["touches_border"].to_dict() == {24: True, 24000: False, 26001: False, 32000: False}


@pytest.mark.slow
@given(st.integers(0, 2**31))
def test_the_index_against_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    ids = rng.choice([7, 24, 24000, 24001, 32000, 29000], (rng.integers(1, 20), rng.integers(1, 20))).astype(np.int32)
    for row in instance_index(ids, labels=CITYSCAPES).itertuples():
        ys, xs = np.nonzero(ids == row.value)
        box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert (row.area, row.x1, row.y1, row.x2, row.y2) == (len(ys), *box)
        assert row.components == cv2.connectedComponents((ids == row.value).astype(np.uint8))[0] - 1
    assert set(instance_index(ids, labels=CITYSCAPES)["value"]) == set(np.unique(ids)) - {7}


@pytest.mark.parametrize("written", ["by_this_project", "by_opencv", "by_pillow"])
def test_a_frame_reads_the_same_whoever_wrote_it(tmp_path, written):
    rng = np.random.default_rng(0)
    image, ids = rng.integers(0, 256, (20, 40, 3), dtype=np.uint8), rng.choice([7, 26000, 26001], (20, 40))
    write_frame(tmp_path, "train", "a_000000_000001", image, ids)
    (frame,) = list_frames(tmp_path, "a")
    if written == "by_opencv":
        cv2.imwrite(str(frame.image), image[..., ::-1])
        cv2.imwrite(str(frame.ids), ids.astype(np.uint16))
    if written == "by_pillow":
        Image.fromarray(image).save(frame.image)
        Image.fromarray(ids.astype(np.uint16)).save(frame.ids)
    for found, expected, dtype in zip(read_frame(frame), (image, ids), (np.uint8, np.int32), strict=True):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("place", [5, 20, 29, 60, -20, -14])
def test_a_flipped_bit_is_reported(tmp_path, place):
    """In the signature, the header, its checksum, the data and the data's checksum."""
    write_frame(tmp_path, "train", "a_000000_000001", np.zeros((20, 40, 3), np.uint8), np.full((20, 40), 7))
    (frame,) = list_frames(tmp_path, "a")
    damaged = bytearray(frame.image.read_bytes())
    damaged[place] ^= 4
    frame.image.write_bytes(damaged)
    with pytest.raises(DatasetError, match=frame.image.name):
        read_frame(frame)


def truncate(frame: Frame) -> Path:
    frame.image.write_bytes(frame.image.read_bytes()[:-200])
    return frame.image


def other_size(frame: Frame) -> Path:
    cv2.imwrite(str(frame.ids), np.full((10, 10), 7, np.uint16))
    return frame.ids


def eight_bit(frame: Frame) -> Path:
    cv2.imwrite(str(frame.ids), np.full((40, 60), 7, np.uint8))
    return frame.ids


def unknown_label(frame: Frame) -> Path:
    cv2.imwrite(str(frame.ids), np.full((40, 60), 99, np.uint16))
    return frame.ids


def instance_of_stuff(frame: Frame) -> Path:
    cv2.imwrite(str(frame.ids), np.full((40, 60), 7001, np.uint16))
    return frame.ids


def no_ids(frame: Frame) -> Path:
    frame.ids.unlink()
    return frame.image


def no_image(frame: Frame) -> Path:
    frame.image.rename(frame.image.with_name("aachen_000001_000019_leftImg8bit.png"))
    return frame.ids


def not_a_png(frame: Frame) -> Path:
    frame.ids.write_text("hello")
    return frame.ids


@pytest.mark.parametrize(
    "harm", [truncate, other_size, eight_bit, unknown_label, instance_of_stuff, no_ids, no_image, not_a_png]
)
def test_bad_files_are_named_in_one_line(tree, harm):
    culprit = harm(paths(tree))
    with pytest.raises(DatasetError) as caught:
        [read_frame(frame) for frame in list_frames(tree, "aachen")]
    message = str(caught.value)
    assert "\n" not in message
    if harm is not no_image:
        assert culprit.name in message


@pytest.mark.parametrize("make", [False, True])
def test_a_missing_or_empty_city(tree, make):
    if make:
        (tree / "leftImg8bit/val/ulm").mkdir(parents=True)
    with pytest.raises(DatasetError, match="ulm"):
        list_frames(tree, "ulm")


def test_ids_of_32_bit_png_are_read(tree):
    frame = paths(tree)
    from PIL import Image

    values = np.full((40, 60), 33000, np.int32)
    Image.fromarray(values.astype(np.uint16)).save(frame.ids)
    assert read_ids(frame.ids).max() == 33000


def test_polygons_are_valid_json(tree):
    raw = json.loads(Path(str(paths(tree).ids).replace("instanceIds.png", "polygons.json")).read_text())
    assert (raw["imgHeight"], raw["imgWidth"]) == (40, 60)


IDS = np.full((8, 12), 7, np.int32)
IMAGE = np.zeros((8, 12, 3), np.uint8)


def with_value(value: int) -> np.ndarray:
    ids = IDS.copy()
    ids[2, 3] = value
    return ids


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ids": with_value(70001)}, "id 70001"),
        ({"ids": with_value(34001)}, "id 34001"),
        ({"ids": with_value(-1)}, "id -1"),
        ({"ids": with_value(7001)}, "id 7001"),
        ({"ids": with_value(26000 + (1 << 16))}, "id 91536"),
        ({"ids": IDS > 0}, "bool"),
        ({"ids": IDS.astype(float)}, "float64"),
        ({"ids": IDS[1:]}, r"\(7, 12\)"),
        ({"image": IMAGE.astype(np.uint16)}, "uint16"),
        ({"image": IMAGE[..., 0]}, r"\(8, 12\)"),
        ({"frame_id": "Aachen_000000_000019"}, "Aachen"),
        ({"frame_id": "aachen_000000"}, "aachen_000000'"),
        ({"frame_id": "../aachen_000000_000019"}, "aachen"),
        ({"split": "../train"}, "split"),
    ],
)
def test_a_frame_that_the_layout_cannot_hold_is_refused_and_leaves_nothing(tmp_path, changes, said):
    frame = {"split": "train", "frame_id": FRAME, "image": IMAGE, "ids": IDS} | changes
    with pytest.raises(DatasetError, match=said):
        write_frame(tmp_path, **frame)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["aachen_000000_000099_leftImg8bit.PNG", "aachen_000000_000099_leftImg8bit.jpg"])
def test_a_frame_that_would_be_passed_over_is_named(tree: Path, name: str) -> None:
    image = paths(tree).image
    image.with_name(name).write_bytes(image.read_bytes())
    with pytest.raises(DatasetError, match="would be ignored"):
        list_frames(tree, "aachen")


def test_shadows_of_macos_are_passed_over(tree: Path) -> None:
    image = paths(tree).image
    image.with_name(f"._{image.name}").write_bytes(b"shadow")
    assert len(list_frames(tree, "aachen")) == 1


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_orientation_tag_is_named(tree: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = paths(tree).image
    Image.open(image).save(image, exif=exif)
    with pytest.raises(DatasetError, match=f"EXIF orientation {orientation}"):
        read_image(image)


def test_a_jpeg_called_png_is_told_as_that(tree: Path) -> None:
    image = paths(tree).image
    Image.open(image).save(image, format="JPEG")
    with pytest.raises(DatasetError, match="holds JPEG, whatever its name says; save it as PNG"):
        read_image(image)
