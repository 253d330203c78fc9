"""The adapter to detectron2; all but the first test need the package."""

from __future__ import annotations

from importlib.util import find_spec

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.evaluation.metrics.model_costs import measure
from instsynth_dagster.segmenters.contract import PREDICTION_COLUMNS, get_segmenter
from instsynth_dagster.segmenters.detectron2 import segmenter as adapter
from instsynth_dagster.segmenters.shared.backbones import load_backbone
from tests.segmenters.toy import ToyDataset, tiny

CLASSES = ("person", "car", "motorcycle")
needs_detectron2 = pytest.mark.skipif(find_spec("detectron2") is None, reason="detectron2 is not installed")
BACKBONE = "checkpoints/mini-mask2former"
SMALL_R_CNN = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 32,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 16,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
}
SMALL = {**SMALL_R_CNN, "MODEL.FPN.OUT_CHANNELS": 16}


def recipe(**changes):
    return tiny(**({"kind": "detectron2", "architecture": SMALL, "steps": 2} | changes))


def fit(folder, progress=None, **changes):
    arguments = {"classes": CLASSES, "seed": 0, "out": folder / "checkpoint", "scratch": folder / "scratch"}
    return get_segmenter("detectron2").fit(ToyDataset(), recipe(**changes), **arguments, progress=progress)


def new_model(**changes):
    from instsynth_dagster.segmenters.detectron2 import models

    return models.build(models.read_config(recipe(**changes), CLASSES, "cpu"))


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (
            ModuleNotFoundError("No module named 'detectron2'", name="detectron2"),
            r"which is not installed: pip install",
        ),
        (
            ModuleNotFoundError("No module named 'yacs'", name="yacs"),
            r"lacks yacs, which is not installed: pip install",
        ),
        (Exception("Could not deserialize ATN\nwith version 3"), r"cannot be imported \(Could not .*\): pip install"),
    ],
)
def test_its_absence_is_one_clear_line(tmp_path, monkeypatch, failure, says) -> None:
    def fails(name: str) -> None:
        raise failure

    monkeypatch.setattr(adapter, "import_module", fails)
    with pytest.raises(SettingsError, match=says) as caught:
        fit(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(find_spec("detectron2") is not None, reason="detectron2 is installed")
def test_what_is_missing_is_named_where_it_is_missing(tmp_path) -> None:
    with pytest.raises(SettingsError, match="detectron2, which is not installed"):
        fit(tmp_path)


@pytest.mark.slow
@needs_detectron2
def test_trains_and_predicts(tmp_path) -> None:
    assert fit(tmp_path).curve["loss"].notna().all()
    predictor = get_segmenter("detectron2").load(tmp_path / "checkpoint", recipe(), labels=CITYSCAPES)
    image = ToyDataset()[0][0]
    (table,) = predictor.predict([image])
    assert list(table.columns) == list(PREDICTION_COLUMNS)
    pd.testing.assert_frame_equal(predictor.predict([image])[0], table)
    cost = measure(predictor, image)
    assert cost is not None
    assert cost.gmacs > 0


@needs_detectron2
def test_an_arm_stands_in_its_catalogue() -> None:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    adapter.register_arm(ToyDataset(2), CLASSES)
    name = adapter.register_arm(ToyDataset(), CLASSES)
    records = DatasetCatalog.get(name)
    assert len(records) == len(ToyDataset())
    assert MetadataCatalog.get(name).thing_classes == list(CLASSES)
    assert {row["category_id"] for row in records[0]["annotations"]} <= {0, 1, 2}


@needs_detectron2
def test_pixels_arrive_as_its_models_expect_them() -> None:
    from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN, IMAGENET_STD

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
        ({"config_file": "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml"}, "not a PanopticFPN"),
        ({"config_file": "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", "backbone": BACKBONE}, "FPN"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(tmp_path, changes, says) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        fit(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@needs_detectron2
@pytest.mark.parametrize("text", ["MODEL: [1", "just words", "MODEL: {DEVICE: !!python/object/apply:os.getcwd []}"])
def test_a_file_that_is_no_configuration_is_one_clear_line_and_runs_no_code(tmp_path, text) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"mine\.yaml") as caught:
        fit(tmp_path, config_file=file)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@needs_detectron2
def test_a_configuration_file_of_ones_own(tmp_path) -> None:
    from detectron2 import model_zoo

    base = model_zoo.get_config_file("Base-RCNN-FPN.yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(f"_BASE_: {base}\nMODEL:\n  FPN: {{OUT_CHANNELS: 24}}\n")
    fit(tmp_path, config_file=file, architecture=SMALL_R_CNN)
    assert load_file(tmp_path / "checkpoint" / "model.safetensors")["backbone.fpn_output2.weight"].shape[0] == 24


@needs_detectron2
def test_nothing_stays_frozen_at_random_weights() -> None:
    model = new_model()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert isinstance(model.backbone.bottom_up.stem.conv1.norm, torch.nn.BatchNorm2d)


@needs_detectron2
def test_what_one_asks_for_is_frozen() -> None:
    changes = {"MODEL.BACKBONE.FREEZE_AT": 2, "MODEL.RESNETS.NORM": "FrozenBN"}
    assert any(not parameter.requires_grad for parameter in new_model(architecture=SMALL | changes).parameters())


@pytest.mark.slow
@needs_detectron2
def test_a_backbone_of_transformers_brings_its_weights(tmp_path) -> None:
    fit(tmp_path, backbone=BACKBONE, learning_rate=1e-9, steps=1)
    trained = load_file(tmp_path / "checkpoint" / "model.safetensors")
    name = "embedder.embedder.convolution.weight"
    given = load_backbone(BACKBONE).state_dict()[name]
    torch.testing.assert_close(trained[f"backbone.bottom_up.stages.{name}"], given, atol=1e-6, rtol=0)
    assert (
        len(
            get_segmenter("detectron2")
            .load(tmp_path / "checkpoint", recipe(), labels=CITYSCAPES)
            .predict([ToyDataset()[0][0]])
        )
        == 1
    )


@pytest.mark.slow
@needs_detectron2
def test_a_training_goes_on_from_a_trained_folder(tmp_path) -> None:
    fit(tmp_path / "first", backbone=BACKBONE)
    fit(tmp_path / "second", model=str(tmp_path / "first" / "checkpoint"), learning_rate=1e-9, steps=1)
    before, after = (load_file(tmp_path / part / "checkpoint" / "model.safetensors") for part in ("first", "second"))
    weights = [name for name in before if name.endswith("weight")]
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in weights)


@pytest.mark.slow
@needs_detectron2
def test_the_same_training_leaves_the_same_files(tmp_path) -> None:
    for part in ("first", "second"):
        fit(tmp_path / part)
    for name in ("config.yaml", "config.json", "model.safetensors"):
        first, second = ((tmp_path / part / "checkpoint" / name).read_bytes() for part in ("first", "second"))
        assert first == second, name


@pytest.mark.slow
@needs_detectron2
def test_a_killed_training_ends_as_if_it_had_not_been(tmp_path) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, *_: float) -> None:
        if done == 3:
            raise Killed

    whole = fit(tmp_path / "whole", steps=4)
    with pytest.raises(Killed):
        fit(tmp_path / "killed", steps=4, progress=kill)
    resumed = fit(tmp_path / "killed", steps=4)
    pd.testing.assert_frame_equal(resumed.curve, whole.curve)
    first, second = (
        (tmp_path / part / "checkpoint" / "model.safetensors").read_bytes() for part in ("whole", "killed")
    )
    assert first == second


@needs_detectron2
def test_images_are_read_at_the_size_asked_for(tmp_path) -> None:
    fit(tmp_path)
    image = ToyDataset()[0][0]
    tables = [
        get_segmenter("detectron2")
        .load(tmp_path / "checkpoint", recipe(test_size=size), labels=CITYSCAPES)
        .predict([image])[0]
        for size in (None, image.shape[:2], (144, 208))
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert not tables[0]["score"].equals(tables[2]["score"])
    assert set(tables[2]["mask_height"]) == {image.shape[0]}


@needs_detectron2
def test_a_folder_without_some_weights_is_refused(tmp_path) -> None:
    fit(tmp_path)
    file = tmp_path / "checkpoint" / "model.safetensors"
    weights = load_file(file)
    del weights["backbone.fpn_output2.weight"]
    save_file(weights, file)
    with pytest.raises(CheckpointError, match=r"lacks 'backbone\.fpn_output2\.weight'"):
        get_segmenter("detectron2").load(tmp_path / "checkpoint", recipe(), labels=CITYSCAPES)


@needs_detectron2
def test_a_folder_that_is_no_checkpoint_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        get_segmenter("detectron2").load(tmp_path, recipe(), labels=CITYSCAPES)
