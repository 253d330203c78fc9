"""What FiftyOne is handed, by a fake of that name, and the COCO JSON that is written without it."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.data.originals import OriginalImage, OriginalObject
from instsynth_dagster.evaluation.browsing import Picture
from jobs import fiftyone
from tests.data.coco_trees import box
from tests.data.opened import rectangle


@pytest.fixture
def found(tmp_path: Path) -> list[Picture]:
    objects = (
        OriginalObject("car", [box(16, 12, 32, 36)], False, 7),
        OriginalObject("person", encode_rle(rectangle(0, 0, 8, 8)), True, 9),
        OriginalObject("car", [box(90, 90, 99, 99)], False, 11),  # outside
    )
    attributes = {"synthetic": True, "prompt": "a photo of a red car", "source": "ulm_1"}
    window = OriginalImage("w.png", (64, 48), None, (OriginalObject("car", [box(0, 0, 32, 24)], False, None),))
    counts = encode_rle(rectangle(16, 12, 32, 24))["counts"]
    row = {"class_name": "car", "score": 0.75, "mask_counts": counts, "mask_height": 48, "mask_width": 64}
    frame = OriginalImage("a.jpg", (64, 48), 3, objects)
    predictions = {"real-s0|m": pd.DataFrame([row])}
    return [
        Picture(tmp_path / "photos/a.jpg", "val", frame, {"synthetic": False}, predictions=predictions),
        Picture(tmp_path / "results/fiftyone/arm/w.png", "arm", window, attributes, 0),
    ]


class FakeSample(dict[str, Any]):
    def __init__(self, filepath: str, tags: list[str], **attributes: Any) -> None:
        super().__init__(filepath=filepath, tags=tags, **attributes)


class FakeDataset:
    def __init__(self, name: str, overwrite: bool) -> None:
        assert overwrite
        self.name, self.samples = name, []

    def add_samples(self, samples: list[FakeSample]) -> None:
        self.samples += samples


@pytest.fixture
def fake_fiftyone(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("fiftyone")
    module.Dataset, module.Sample = FakeDataset, FakeSample
    module.Detection = module.Detections = lambda **given: types.SimpleNamespace(**given)
    module.launch_app = lambda dataset: dataset
    monkeypatch.setitem(sys.modules, "fiftyone", module)
    return module


def test_samples_hold_masks_crowds_repaintings_and_predictions(fake_fiftyone, found: list[Picture]) -> None:
    dataset = fiftyone.launch_app(found, "mine")
    frame, window = dataset.samples
    assert dataset.name == "mine"
    assert (frame["tags"], frame["synthetic"]) == (["val"], False)
    car, crowd = frame["ground_truth"].detections
    assert car.bounding_box == [0.25, 0.25, 0.25, 0.5]
    assert car.mask.shape == (24, 16)
    assert car.mask.all()
    assert (car.iscrowd, crowd.iscrowd) == (False, True)
    [predicted] = frame["real_s0_m"].detections
    assert (predicted.label, predicted.confidence, predicted.bounding_box) == ("car", 0.75, [0.25, 0.25, 0.25, 0.25])
    assert (window["synthetic"], window["prompt"], window["source"]) == (True, "a photo of a red car", "ulm_1")
    assert window["ground_truth"].detections[0].synthetic


def test_without_it_coco_json_holds_the_same(found: list[Picture], tmp_path: Path) -> None:
    folder = tmp_path / "results/fiftyone"
    path = fiftyone.write_coco(found, CityscapesData(tmp_path / "photos", CITYSCAPES), folder)
    data = json.loads(path.read_text())
    assert [image["file_name"] for image in data["images"]] == ["photos/a.jpg", "results/fiftyone/arm/w.png"]
    assert data["info"]["file_names_are_relative_to"] == "../.."
    assert [image["id"] for image in data["images"]] == [3, 4]
    attributes = [data["images"][1][key] for key in ("synthetic", "prompt", "source")]
    assert attributes == [True, "a photo of a red car", "ulm_1"]
    assert [(a["id"], a["image_id"], a["iscrowd"], a.get("synthetic")) for a in data["annotations"]] == [
        (7, 3, 0, None),
        (9, 3, 1, None),
        (10, 4, 0, True),
    ]
    [result] = json.loads((folder / "predictions_real-s0_m.json").read_text())
    assert (result["image_id"], result["category_id"], result["score"]) == (3, 26, 0.75)


def test_an_empty_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("dataset: {root: nowhere, train_cities: [ulm]}\n")
    with pytest.raises(SystemExit, match="run make prepare"):
        fiftyone.main(["--coco"])
    assert not list(tmp_path.rglob("*.json"))
