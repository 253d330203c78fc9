"""Masks of formats that the export does not write itself."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from pycocotools.coco import COCO

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_ids, encode_png
from instsynth_dagster.settings import AnonymiseSettings
from instsynth_dagster.synthesis.anonymised_export import RECORD, export_anonymised

IDS = np.full((20, 30), 7, np.int32)
IDS[4:12, 5:15] = 24001


class Pictures:
    """A data set of one grey picture for each split, whatever its format."""

    root, labels = Path("nowhere"), CITYSCAPES

    def categories(self):
        return [{"id": 24, "name": "person"}]

    def image(self, row):
        return np.full((20, 30, 3), 90, np.uint8)

    def ids(self, row):
        return IDS


def test_masks_of_another_format_become_coco_files_by_split(tmp_path: Path) -> None:
    frames = {name: SimpleNamespace(frame_id=name, split=split) for name, split in (("a/1", "train"), ("b/2", "val"))}
    rows = [
        {"frame_id": name, "image_png": encode_png(Pictures().image(None)), "ids_png": encode_ids(IDS), "told": "[]"}
        for name in frames
    ]
    section = AnonymiseSettings(generator="g", classes=("person",))
    examined = export_anonymised(rows, frames, Pictures(), section, tmp_path / "out", {})
    assert (examined.problems, examined.frames) == ([], 2)
    for split, name in (("train", "a/1"), ("val", "b/2")):
        coco = COCO(str(tmp_path / f"out/annotations/instances_{split}.json"))
        (annotation,) = coco.loadAnns(coco.getAnnIds())
        np.testing.assert_array_equal(coco.annToMask(annotation), IDS == 24001)
        assert coco.loadImgs(1)[0]["file_name"] == f"{name}.png"
        assert (tmp_path / "out/images" / f"{name}.png").is_file()
        assert "synthetic" not in json.dumps(coco.loadImgs(1))
    assert (tmp_path / "out" / RECORD).read_text().startswith("frame_id,value,class,how,why")
