"""Exports load in the tools they are for."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, list_frames, read_frame
from instsynth_dagster.data.images import decode_ids, encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.data.originals import OriginalImage, OriginalObject
from instsynth_dagster.errors import ArtifactError
from instsynth_dagster.synthesis.export import COCO_JSON, MARK, MERGED_JSON, Originals, exported_files, write_export
from instsynth_dagster.synthesis.export_formats import PANOPTIC_JSON
from tests.data.opened import opened


def row(frame_id: str = "ulmsyn_000026_000000") -> dict:
    ids = np.full((20, 40), 7, np.uint16)
    ids[2:8, 3:9] = 26001
    ids[10:14, 20:30] = 32000
    ids[15:18, 0:40] = 24
    return {"frame_id": frame_id, "image_png": encode_png(np.zeros((20, 40, 3), np.uint8)), "ids_png": encode_png(ids)}


def test_the_cityscapes_tree_reads_back(tmp_path: Path):
    write_export([row()], tmp_path / "out")
    frame = list_frames(tmp_path / "out", "ulmsyn")[0]
    _, ids = read_frame(frame)
    assert set(np.unique(ids)) == {7, 24, 26001, 32000}
    info = getCsFileInfo(str(frame.image))
    assert (info.city, info.sequenceNb, info.frameNb) == ("ulmsyn", "000026", "000000")


def test_every_exported_file_is_listed_with_its_digest(tmp_path: Path):
    write_export([row(), row("ulmsyn_000026_000001"), row("bernsyn_000026_000000")], tmp_path / "out")
    digests = {
        path.relative_to(tmp_path / "out").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    listed = list(exported_files(tmp_path / "out"))
    assert digests.pop(MARK)
    assert dict(listed) == digests
    assert len(listed) == len(digests) == 3 * 4 + 1


def test_coco_masks_and_crowds(tmp_path: Path):
    write_export([row()], tmp_path / "out")
    path = tmp_path / "out" / COCO_JSON
    coco = COCO(str(path))
    masks = {a["category_id"]: (coco.annToMask(a), a["iscrowd"]) for a in coco.loadAnns(coco.getAnnIds())}
    assert masks[26][0][2:8, 3:9].all()
    assert masks[26][0].sum() == 36
    assert masks[24][1] == 1
    assert masks[32][1] == 0
    image = json.loads(path.read_text())["images"][0]
    assert (tmp_path / "out" / image["file_name"]).exists()


def test_an_export_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path):
    write_export([row()], tmp_path / "out")
    before = list(exported_files(tmp_path / "out"))
    with pytest.raises(ArtifactError, match="nothing was exported"):
        write_export([row(), row("../../evil")], tmp_path / "out")
    assert list(exported_files(tmp_path / "out")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("kind", ["folder", "file", "link", "link to an export"])
def test_what_no_export_has_made_is_never_replaced(tmp_path: Path, kind: str):
    mine, out = tmp_path / "mine", tmp_path / "exports" / "cityscapes"
    out.parent.mkdir()
    if kind == "file":
        out.write_text("precious")
    elif kind == "folder":
        (out / "gtFine").mkdir(parents=True)
        (out / "gtFine" / "frame.png").write_bytes(b"precious")
    else:
        if kind == "link":
            (mine / "gtFine").mkdir(parents=True)
        else:
            write_export([row()], mine)
        out.symlink_to(mine)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactError, match=r"not a folder that an export has made .*move it away"):
        write_export([row()], out)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_killed_export_left_is_cleared_away_and_nothing_else(tmp_path: Path):
    left, users = tmp_path / "out.tmp-1", tmp_path / "out.tmp-notes"
    for folder, name in ((left, MARK), (users, "notes.txt")):
        folder.mkdir()
        (folder / name).write_text("")
    (tmp_path / "out").mkdir()  # empty
    write_export([row()], tmp_path / "out")
    write_export([row()], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.tmp-notes"]
    assert (users / "notes.txt").exists()


def test_the_truth_taken_as_a_result_scores_one(tmp_path: Path):
    write_export([row(), row("ulmsyn_000026_000001")], tmp_path / "out")
    truth = COCO(str(tmp_path / "out" / COCO_JSON))
    annotations = truth.loadAnns(truth.getAnnIds(iscrowd=False))
    kept = ("image_id", "category_id", "segmentation", "bbox")
    for keys in (kept, kept[:-1]):
        results = truth.loadRes([{key: found[key] for key in keys} | {"score": 0.9} for found in annotations])
        scores = COCOeval(truth, results, "segm")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
        assert scores.stats[0] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("tree", [True, False])
def test_yolo_and_panoptic_read_back_to_the_same_masks(tmp_path: Path, tree: bool):
    out = tmp_path / "out"
    rows = [row(), row("ulmsyn_000026_000001")]
    write_export(rows, out, tree=tree, formats=("yolo", "coco_panoptic"))
    truth = decode_ids(rows[0]["ids_png"])
    survey, ids = opened(tmp_path, format="yolo", annotations=str(out / "data.yaml"))
    assert len(ids) == 2
    assert survey.labels.classes == CITYSCAPES.classes
    for found in ids.values():
        for value, name in ((26001, "car"), (32000, "motorcycle")):
            assert np.array_equal(survey.labels.of_class(found, name), truth == value)
        assert not survey.labels.of_class(found, "person").any()  # a group, which the format cannot tell
    panoptic = {"format": "coco_panoptic", "images": str(out), "annotations": str(out / PANOPTIC_JSON)}
    survey, ids = opened(tmp_path, **panoptic)
    found = next(iter(ids.values()))
    assert [category["id"] for category in survey.categories] == [label.id for label in CITYSCAPES.evaluated]
    assert np.array_equal(survey.labels.label_ids(found), CITYSCAPES.label_ids(truth))
    assert np.array_equal(survey.labels.is_instance(found), CITYSCAPES.is_instance(truth))


def test_originals_keep_their_ids_in_one_file_with_the_windows(tmp_path: Path):
    images = tmp_path / "photos"
    images.mkdir()
    polygon = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
    objects = (
        OriginalObject("car", [polygon], False, 900),
        OriginalObject("person", encode_rle(np.ones((48, 64), bool)), True, 17),
        OriginalObject("car", [[99.0, 99.0, 98.0, 99.0, 98.0, 98.0]], False, 901),  # outside
    )
    made = Originals(images, [OriginalImage("north/a.jpg", (64, 48), 5, objects)])
    attributes = {"instance_id": "ulm_1:26001", "prompt": "a photo of a red car", "source_frame": "ulm_1"}
    write_export([row() | attributes], tmp_path / "exports" / "mine", tree=False, originals=made)
    path = tmp_path / "exports" / "mine" / MERGED_JSON
    merged = COCO(str(path))
    root = (path.parent / merged.dataset["info"]["file_names_are_relative_to"]).resolve()
    assert root == tmp_path
    names = {image["id"]: image["file_name"] for image in merged.dataset["images"]}
    assert names == {5: "photos/north/a.jpg", 6: "exports/mine/images/ulmsyn_000026_000000.png"}
    assert (root / names[6]).is_file()
    assert [image["synthetic"] for image in merged.dataset["images"]] == [False, True]
    assert [a["id"] for a in merged.imgToAnns[5]] == [900, 17]
    car, crowd = merged.imgToAnns[5]
    assert (car["segmentation"], car["area"], car["bbox"], car["category_id"]) == ([polygon], 100, [2, 2, 10, 10], 26)
    assert crowd["iscrowd"] == 1
    windows = {a["category_id"]: a for a in merged.imgToAnns[6]}
    assert [a["id"] for a in merged.imgToAnns[6]] == [901, 902, 903]
    assert windows[26]["synthetic"]
    assert windows[26]["prompt"] == "a photo of a red car"
    assert "synthetic" not in windows[32]
    assert MERGED_JSON in dict(exported_files(tmp_path / "exports" / "mine"))
