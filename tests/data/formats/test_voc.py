"""Pascal VOC's masks, by palette index as they were released and by colour as CVAT exports them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.formats.voc import CLASSES, OBJECTS, read_voc, voc_colour
from instsynth_dagster.errors import DatasetError, UnreadableError
from tests.data.coco_trees import picture
from tests.data.opened import SIZE, opened, pixels, rectangle


def palette_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8)).convert("P")
    image.putpalette([v >> s & 255 for v in map(voc_colour, range(256)) for s in (16, 8, 0)])
    image.putdata(values.ravel().tolist())
    image.save(path)


def colour_png(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack([values >> s & 255 for s in (16, 8, 0)], axis=-1).astype(np.uint8)).save(path)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Two people and a car with a void border; the second person is cut in two."""
    objects, classes = np.zeros(SIZE[::-1], int), np.zeros(SIZE[::-1], int)
    border = rectangle(39, 9, 61, 31) & ~rectangle(40, 10, 60, 30)
    for value, number, mask in (
        (1, 15, rectangle(2, 2, 12, 12)),
        (2, 15, rectangle(2, 20, 12, 24) | rectangle(20, 20, 24, 24)),
        (3, 7, rectangle(40, 10, 60, 30)),
        (255, 255, border),
    ):
        objects[mask], classes[mask] = value, number
    return objects, classes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "VOC2012"
    objects, classes = maps()
    for name in ("2007_000001", "2007_000002", "2007_000003"):
        picture(root / "JPEGImages" / f"{name}.jpg", SIZE)
    for name in ("2007_000001", "2007_000002"):
        palette_png(root / OBJECTS / f"{name}.png", objects)
        palette_png(root / CLASSES / f"{name}.png", classes)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("2007_000001\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("2007_000002\n")
    return root


def test_colours_are_vocs() -> None:
    assert [voc_colour(i) for i in (0, 1, 2, 15, 255)] == [0, 0x800000, 0x008000, 0xC08080, 0xE0E0C0]


def test_the_palette_of_the_release(root: Path) -> None:
    survey, ids = opened(root.parent, format="voc", annotations=str(root))
    assert len(survey.labels.classes) == 20
    assert dict(survey.instances) == {"person": 2, "car": 1}
    assert pixels(survey, ids["2007_000001"]) == {"person": [100, 40 + 16], "car": [400], "void group": [22 * 22 - 400]}
    assert survey.labels["void"].ignore_in_eval
    assert (len(survey.train_cities), len(survey.val_cities)) == (1, 1)
    assert "1 image files below the folder that no annotation file lists" in "\n".join(survey.notes)


def test_colours_with_a_label_map_as_cvat_writes_them(root: Path) -> None:
    objects, classes = maps()
    colours = {0: 0, 15: 0xFA32B7, 7: 0x3DF53D, 255: 0}
    colour_png(root / CLASSES / "2007_000001.png", np.vectorize(colours.get)(classes))
    colour_png(root / OBJECTS / "2007_000001.png", np.where(objects == 255, 0, objects * 0x123))
    for kind in (CLASSES, OBJECTS):
        (root / kind / "2007_000002.png").unlink()
    (root / "ImageSets/Segmentation/val.txt").unlink()
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\npolyp:250,50,183::\ncone:61,245,61::\n"
    )
    survey, ids = opened(root.parent, format="voc", annotations=str(root))
    assert pixels(survey, ids["2007_000001"]) == {"polyp": [100, 56], "cone": [400]}
    assert survey.val_cities == ()


def test_broken_maps_are_named(root: Path) -> None:
    _, classes = maps()
    palette_png(root / CLASSES / "2007_000001.png", np.where(classes == 15, 0, classes))
    folder = ImageFolder(root / "JPEGImages")
    with pytest.raises(DatasetError, match=r"2007_000001\.png: object 1 of 2007_000001\.png has no class"):
        read_voc(root, folder)
    palette_png(root / CLASSES / "2007_000001.png", classes[:-1])
    with pytest.raises(DatasetError, match="not of the size of"):
        read_voc(root, folder)
    (root / CLASSES / "2007_000001.png").unlink()
    with pytest.raises(DatasetError, match=r"SegmentationClass/2007_000001\.png: no such file"):
        read_voc(root, folder)
    (root / "labelmap.txt").write_text("cone;1,2,3\n")
    with pytest.raises(DatasetError, match=r"labelmap\.txt: 'cone;1,2,3' is not"):
        read_voc(root, folder)
    with pytest.raises(UnreadableError, match="no such folder"):
        read_voc(root.parent, folder)
