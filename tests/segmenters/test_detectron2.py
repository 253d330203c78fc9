"""The adapter to detectron2; all but the first test need the package."""

from __future__ import annotations

from importlib.util import find_spec

import pandas as pd
import pytest
import torch

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters import detectron2 as adapter
from instsynth_dagster.segmenters.base import PREDICTION_COLUMNS, get_segmenter
from tests.segmenters.toy import ToyDataset, tiny

CLASSES = ("person", "car", "motorcycle")
needs_detectron2 = pytest.mark.skipif(find_spec("detectron2") is None, reason="detectron2 is not installed")
SMALL = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
}


def recipe(**changes):
    return tiny(**({"kind": "detectron2", "architecture": SMALL, "steps": 2} | changes))


def fit(folder, **changes):
    arguments = {"classes": CLASSES, "seed": 0, "out": folder / "checkpoint", "scratch": folder / "scratch"}
    return get_segmenter("detectron2").fit(ToyDataset(), recipe(**changes), **arguments)


def test_its_absence_is_one_clear_line(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"detectron2, which is not installed: pip install") as caught:
        fit(tmp_path)
    assert "\n" not in str(caught.value)


@needs_detectron2
def test_trains_and_predicts(tmp_path) -> None:
    assert fit(tmp_path).curve["loss"].notna().all()
    predictor = get_segmenter("detectron2").load(tmp_path / "checkpoint", recipe())
    image = ToyDataset()[0][0]
    (table,) = predictor.predict([image])
    assert list(table.columns) == list(PREDICTION_COLUMNS)
    pd.testing.assert_frame_equal(predictor.predict([image])[0], table)


@needs_detectron2
def test_an_arm_stands_in_its_catalogue() -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    name = adapter.register_arm(ToyDataset(), CLASSES)
    records = DatasetCatalog.get(name)
    assert len(records) == len(ToyDataset())
    assert MetadataCatalog.get(name).thing_classes == list(CLASSES)
    assert {row["category_id"] for row in records[0]["annotations"]} <= {0, 1, 2}


@needs_detectron2
def test_pixels_arrive_as_its_models_expect_them() -> None:
    from instsynth_dagster.segmenters.augmentation import IMAGENET_MEAN, IMAGENET_STD

    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    red = torch.zeros(3, 4, 4)
    red[0] = 1.0
    item = {"pixel_values": (red - mean) / std, "mask_labels": torch.zeros(0, 4, 4), "class_labels": torch.zeros(0)}
    (given,) = adapter.detectron2_batches("BGR")([item])["batched_inputs"]
    assert given["image"][:, 0, 0].tolist() == pytest.approx([0, 0, 255], abs=1e-3)


@needs_detectron2
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"config_file": "COCO-InstanceSegmentation/none.yaml"}, "none.yaml"),
        ({"architecture": {"MODEL.NOTHING": 1}}, "NOTHING"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(tmp_path, changes, says) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        fit(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@needs_detectron2
def test_a_folder_that_is_no_checkpoint_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        get_segmenter("detectron2").load(tmp_path, recipe())
