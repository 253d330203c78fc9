"""CVAT for images 1.1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.formats.cvat import read_cvat
from instsynth_dagster.errors import DatasetError, UnreadableError
from tests.data.coco_trees import picture
from tests.data.opened import SIZE, opened, pixels, rectangle

META = (
    "<version>1.1</version><meta><task><labels><label><name>cone</name><color>#fa3253</color><type>any</type>"
    "<attributes><attribute><name>is_crowd</name></attribute></attributes></label>"
    "<label><name>colon polyp</name></label></labels></task></meta>"
)


def polygon(x1: int, y1: int, x2: int, y2: int, label: str = "cone", **more: object) -> str:
    attributes = " ".join(f'{key}="{value}"' for key, value in more.items() if key != "inside")
    points = f"{x1}.00,{y1}.00;{x2}.00,{y1}.00;{x2}.00,{y2}.00;{x1}.00,{y2}.00"
    return f'<polygon label="{label}" occluded="0" points="{points}" {attributes}>{more.get("inside", "")}</polygon>'


def runs(mask: np.ndarray) -> str:
    """Run lengths along rows, background first, as CVAT writes them."""
    found, value = [0], False
    for pixel in mask.ravel().tolist():
        if pixel != value:
            found.append(0)
            value = pixel
        found[-1] += 1
    return ", ".join(map(str, found))


def write(folder: Path, shapes: str, size: str = 'width="64" height="48"') -> Path:
    path = folder / "annotations.xml"
    image = f'<image id="7" name="site/a b.jpg" {size}>{shapes}</image>'
    path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{META}{image}</annotations>')
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    picture(tmp_path / "images" / "site" / "a b.jpg", SIZE)
    return tmp_path


def read(root: Path, shapes: str, **options: object):
    path = write(root, shapes)
    survey, ids = opened(root, format="cvat", images=str(root / "images"), annotations=str(path), **options)
    return survey, pixels(survey, ids["site/a b"]), ids["site/a b"]


def test_polygons_masks_ellipses_and_boxes(root: Path) -> None:
    ring = rectangle(0, 0, 10, 8)[:8, :10] & ~rectangle(3, 3, 5, 5)[:8, :10]
    mask = f'<mask label="colon polyp" rle="{runs(ring)}" left="50" top="30" width="10" height="8" z_order="0"/>'
    ellipse = '<ellipse label="cone" cx="32" cy="24" rx="8" ry="4" rotation="90"/>'
    boxed = '<box label="cone" xtl="1" ytl="1" xbr="5" ybr="5"/>'
    survey, found, ids = read(root, polygon(2, 2, 12, 12) + mask + ellipse + boxed)
    assert found["colon polyp"] == [76]
    assert np.array_equal(ids[30:38, 50:60] == 2000, ring)
    first, second = found["cone"]
    assert first == 100
    assert abs(second - np.pi * 32) < 6
    rows, columns = np.nonzero(ids == 1001)
    assert (np.ptp(rows), np.ptp(columns)) == (15, 7)  # a quarter turn
    assert "1 annotations have no mask, or only a box" in "\n".join(survey.notes)


def test_a_group_is_one_object_and_crowds_are_crowds(root: Path) -> None:
    crowd = '<attribute name="is_crowd">true</attribute>'
    parts = polygon(0, 0, 4, 4, group_id=3) + polygon(10, 0, 14, 4, group_id=3) + polygon(0, 20, 8, 28, inside=crowd)
    mask = '<mask label="colon polyp" rle="0, 4" left="30" top="30" width="2" height="2" group_id="4"/>'
    survey, found, _ = read(root, parts + mask + polygon(40, 30, 44, 34, "colon polyp", group_id=4))
    assert found == {"cone": [32], "cone group": [64], "colon polyp": [20]}
    assert dict(survey.instances) == {"cone": 1, "colon polyp": 1}


def test_the_z_order_is_followed_where_the_later_lies_on_top(root: Path) -> None:
    shapes = polygon(0, 0, 30, 30, z_order=2) + polygon(10, 10, 20, 20, "colon polyp", z_order=1)
    survey, found, _ = read(root, shapes)
    assert found == {"cone": [800], "colon polyp": [100]}
    assert "z-order of their own" in "\n".join(survey.notes)
    _, found, _ = read(root, shapes, overlap="later")
    assert found == {"cone": [900]}


def test_a_file_of_crowds_alone_is_noticed(root: Path) -> None:
    crowd = '<attribute name="iscrowd">true</attribute>'
    survey, found, _ = read(root, polygon(0, 0, 8, 8, inside=crowd))
    assert found == {"cone group": [64]}
    assert "every object (1) is marked as a crowd" in survey.notes[-1]
    _, found, _ = read(root, polygon(0, 0, 8, 8, inside=crowd), crowds="instances")
    assert found == {"cone": [64]}


def test_masks_that_stick_out_are_cut_off(root: Path) -> None:
    _, found, _ = read(root, '<mask label="cone" rle="0, 100" left="60" top="-2" width="10" height="10"/>')
    assert found == {"cone": [4 * 8]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<annotations>", "not valid XML"),
        ("<annotation/>", "begins with <annotation>"),
        ('<annotations><track id="0" label="cone"/></annotations>', "tracks of a video"),
        ("<annotations><image/></annotations>", "an image has no name"),
        ('<annotations><image name="a b.jpg" width="x"/></annotations>', "width of a <image> is 'x'"),
    ],
)
def test_a_broken_file_is_named(root: Path, content: str, problem: str) -> None:
    path = root / "annotations.xml"
    path.write_text(content)
    with pytest.raises(DatasetError, match=problem):
        read_cvat({None: path}, ImageFolder(root / "images"))


@pytest.mark.parametrize(
    ("shape", "problem"),
    [
        ('<polygon points="1,2;3,4;5,6"/>', "has no label"),
        ('<polygon label="cone" points="1,2;a"/>', "points of a <polygon> is '1,2;a'"),
        ('<mask label="cone" rle="0, 5" left="0" top="0" width="2" height="2"/>', "has 5 pixels, its box 2x2"),
        ('<ellipse label="cone" cx="1" cy="1" rx="1"/>', "ry of a <ellipse>"),
    ],
)
def test_a_broken_shape_is_named(root: Path, shape: str, problem: str) -> None:
    with pytest.raises(DatasetError, match=problem):
        read_cvat({None: write(root, shape)}, ImageFolder(root / "images"))
    with pytest.raises(UnreadableError, match="no such file"):
        read_cvat({None: root / "no.xml"}, ImageFolder(root / "images"))
