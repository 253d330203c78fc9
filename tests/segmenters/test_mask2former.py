import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from safetensors.torch import load_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.mask2former import build_model
from instsynth_dagster.segmenters.shared.augmentation import collate
from instsynth_dagster.segmenters.shared.queries import prepare
from tests.segmenters.toy import TINY_ARCHITECTURE, TINY_RESNET, ToyDataset, tiny

CLASSES = ("person", "car", "motorcycle")
SEGMENTER = get_segmenter("mask2former")


def fit(folder, settings, dataset=None, progress=None, seed=0):
    return SEGMENTER.fit(
        ToyDataset() if dataset is None else dataset,
        settings,
        classes=CLASSES,
        seed=seed,
        out=folder / "checkpoint",
        scratch=folder / "scratch",
        progress=progress,
    )


def weights(folder):
    return load_file(folder / "checkpoint" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An undisturbed training of four steps."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, fit(folder, tiny())


class Killed(Exception):
    pass


@pytest.mark.slow
def test_killed_training_ends_as_the_undisturbed_one(tmp_path, trained):
    def kill_after_three(done, total, *_):
        assert total == 4
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path, tiny(), progress=kill_after_three)
    assert not (tmp_path / "checkpoint").exists()
    broken = tmp_path / "scratch" / "checkpoint-3"  # a kill while the state is being written
    shutil.copytree(tmp_path / "scratch" / "checkpoint-2", broken)
    (broken / "trainer_state.json").write_text('{"global_step": 3,')
    steps = []
    torch.manual_seed(1234)  # whatever the process did in between
    result = fit(tmp_path, tiny(), progress=lambda done, *_: steps.append(done))
    assert steps == [3, 4]
    pd.testing.assert_frame_equal(result.curve, trained[1].curve)
    expected, got = weights(trained[0]), weights(tmp_path)
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.slow
def test_curve_and_checkpoint_folder(trained):
    folder, result = trained
    assert result.curve["step"].tolist() == [4]
    assert np.isfinite(result.curve["loss"]).all()
    assert result.curve["learning_rate"].is_monotonic_decreasing
    assert result.seconds > 0
    assert result.peak_memory > 2**20
    assert sorted(p.name for p in result.folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    config = transformers.AutoConfig.from_pretrained(result.folder)
    assert config.id2label == dict(enumerate(CLASSES))
    assert str(folder) not in (result.folder / "config.json").read_text()


@pytest.mark.slow
def test_training_is_a_function_of_its_seed(tmp_path, trained):
    (tmp_path / "same").mkdir()
    same, other = fit(tmp_path / "same", tiny()), fit(tmp_path / "other", tiny(), seed=1)
    pd.testing.assert_frame_equal(same.curve, trained[1].curve)
    assert not np.allclose(other.curve["loss"], same.curve["loss"])


@pytest.mark.slow
def test_training_lowers_the_loss(tmp_path):
    curve = fit(tmp_path, tiny(steps=60, checkpoint_every=60, grad_clip=1.0, backbone_lr_factor=1.0)).curve
    assert curve["loss"].iloc[-1] < 0.8 * curve["loss"].iloc[0]


@pytest.mark.slow
def test_clipping_is_a_switch(tmp_path):
    """Gradients far below AdamW's epsilon move nothing; 0 clips nothing."""
    name, moved = "class_predictor.weight", {}
    start = fit(tmp_path / "start", tiny(steps=1, learning_rate=1e-12, weight_decay=0.0)).folder
    for clip in (1e-14, 0.0, 1e9):
        settings = tiny(steps=1, grad_clip=clip, weight_decay=0.0)
        trained = load_file(fit(tmp_path / str(clip), settings).folder / "model.safetensors")[name]
        moved[clip] = trained - load_file(start / "model.safetensors")[name]
    assert moved[1e-14].abs().max() < 1e-6
    assert moved[0.0].abs().max() > 1e-4
    assert torch.equal(moved[0.0], moved[1e9])


@pytest.mark.slow
def test_training_leaves_global_generators_alone(tmp_path):
    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    fit(tmp_path, tiny(steps=1))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (3, 20)])
def test_loss_with_none_and_with_more_instances_than_queries(counts):
    model = build_model(tiny(), CLASSES)
    items = [
        {
            "pixel_values": torch.randn(3, 64, 96),
            "mask_labels": (torch.rand(n, 64, 96) > 0.5).float(),
            "class_labels": torch.zeros(n, dtype=torch.int64),
        }
        for n in counts
    ]
    loss = model(**collate(items)).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(33, 47), (96, 160), (20, 40), (101, 35)])
@pytest.mark.parametrize("test_size", [None, (50, 70)])
def test_predictions_are_masks_of_the_image(trained, size, test_size):
    predictor = SEGMENTER.load(trained[0] / "checkpoint", tiny(test_size=test_size), labels=CITYSCAPES)
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    (table,) = predictor.predict([image])
    assert 0 < len(table) <= 12
    assert set(table["class_name"]) <= set(CLASSES)
    assert table["score"].between(0, 1).all()
    for row in table.to_dict("records"):
        mask = decode_rle({"size": [row["mask_height"], row["mask_width"]], "counts": row["mask_counts"]})
        assert mask.shape == size
        assert mask.any()


@pytest.mark.slow
def test_a_prediction_does_not_depend_on_its_neighbours(trained):
    predictor = SEGMENTER.load(trained[0] / "checkpoint", tiny(), labels=CITYSCAPES)
    images = [ToyDataset()[index][0] for index in range(3)]
    together = predictor.predict(images)
    for image, table in zip(images[::-1], together[::-1], strict=True):
        pd.testing.assert_frame_equal(predictor.predict([image])[0], table)


@pytest.mark.slow
def test_checkpoint_round_trip_keeps_predictions(trained, tmp_path):
    image = ToyDataset()[0][0]
    predictor = SEGMENTER.load(trained[0] / "checkpoint", tiny(), labels=CITYSCAPES)
    predictor.model.save_pretrained(tmp_path)
    again = SEGMENTER.load(tmp_path, tiny(), labels=CITYSCAPES)
    pd.testing.assert_frame_equal(predictor.predict([image])[0], again.predict([image])[0])


def test_padding_is_right_and_below():
    image = np.full((33, 40, 3), 255, dtype=np.uint8)
    pixels, geometry = prepare(image, None)
    assert (geometry.image, geometry.content, geometry.padded) == ((33, 40), (33, 40), (64, 64))
    assert (pixels[:, :33, :40] > 2).all()
    assert not pixels[:, 33:].any()
    assert not pixels[:, :, 40:].any()


def test_backbone_weights_are_taken_over(tmp_path):
    classifier = transformers.ResNetForImageClassification(transformers.AutoConfig.for_model(**TINY_RESNET))
    classifier.save_pretrained(tmp_path)
    architecture = {k: v for k, v in TINY_ARCHITECTURE.items() if k != "backbone_config"}
    model = build_model(tiny(backbone=str(tmp_path), architecture=architecture), CLASSES)
    encoder = model.model.pixel_level_module.encoder.state_dict()
    expected = transformers.ResNetBackbone.from_pretrained(tmp_path).state_dict()
    assert encoder.keys() == expected.keys()
    assert all(torch.equal(encoder[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_pretrained_segmenter_gets_a_new_class_head(trained):
    model = build_model(tiny(model=str(trained[0] / "checkpoint")), ("person", "car", "bus", "train"))
    assert model.class_predictor.out_features == 5
    assert model.criterion.empty_weight.tolist() == pytest.approx([1, 1, 1, 1, 0.1])
    before = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(trained[0] / "checkpoint").state_dict()
    name = "model.transformer_module.queries_features.weight"
    assert torch.equal(model.state_dict()[name], before[name])


def test_unknown_architecture_key_is_named():
    with pytest.raises(SettingsError, match=r"architecture: unknown key 'hiden_dim'"):
        build_model(tiny(architecture={"hiden_dim": 32}), CLASSES)


def test_impossible_architecture_is_one_line():
    with pytest.raises(SettingsError, match=r"segmenters\.architecture: .*") as caught:
        build_model(tiny(architecture=TINY_ARCHITECTURE | {"feature_size": 33}), CLASSES)
    assert "\n" not in str(caught.value)


def test_empty_training_set_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="holds no samples"):
        fit(tmp_path, tiny(), dataset=ToyDataset(0))


@pytest.mark.slow
def test_diverged_training_is_one_clear_line(tmp_path):
    with pytest.raises(SettingsError, match="lower learning_rate"):
        fit(tmp_path, tiny(steps=8, learning_rate=1e20, grad_clip=1e9, backbone_lr_factor=1.0))


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["missing", "truncated", "other kind"])
def test_unusable_checkpoint_is_one_clear_line(trained, tmp_path, damage):
    folder = tmp_path / "checkpoint"
    if damage != "missing":
        shutil.copytree(trained[0] / "checkpoint", folder)
    if damage == "truncated":
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:1000])
    if damage == "other kind":
        (folder / "config.json").write_text(json.dumps(TINY_RESNET))
    with pytest.raises(CheckpointError, match="checkpoint") as caught:
        SEGMENTER.load(folder, tiny(), labels=CITYSCAPES)
    assert "\n" not in str(caught.value)


def test_missing_backbone_is_one_clear_line(tmp_path):
    architecture = {k: v for k, v in TINY_ARCHITECTURE.items() if k != "backbone_config"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: cannot be loaded as a backbone") as caught:
        build_model(tiny(backbone=str(tmp_path / "empty"), architecture=architecture), CLASSES)
    assert "\n" not in str(caught.value)


def test_unknown_kind_is_named():
    with pytest.raises(SettingsError, match="unknown kind 'unet'"):
        get_segmenter("unet")


@pytest.mark.slow
def test_a_batch_that_the_device_cannot_hold_is_worked_through_in_pieces(tmp_path, monkeypatch, caplog):
    recipe = tiny(batch_size=4, steps=4, checkpoint_every=2)
    whole = fit(tmp_path / "whole", recipe)
    original, seen = transformers.Mask2FormerForUniversalSegmentation.forward, []

    def cramped(self, pixel_values, **rest):
        """As on a device whose memory holds two images, and one of them has got company after step 2."""
        seen.append(len(pixel_values))
        if len(pixel_values) > (2 if len(seen) < 10 else 1):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, pixel_values, **rest)

    monkeypatch.setattr(transformers.Mask2FormerForUniversalSegmentation, "forward", cramped)
    halved = fit(tmp_path / "halved", recipe)
    assert seen == [4, *[2] * 8, 2, *[1] * 16]  # each piece is passed twice
    assert "out of memory on the device with 4 samples at once; going on with 2" in caplog.text
    assert halved.curve["step"].tolist() == whole.curve["step"].tolist()
    np.testing.assert_allclose(halved.curve["loss"], whole.curve["loss"], rtol=0.1)  # other points are drawn
    monkeypatch.setattr(
        transformers.Mask2FormerForUniversalSegmentation, "forward", lambda *_, **__: cramped(None, [0] * 9)
    )
    with pytest.raises(SettingsError, match="the device has no memory for one sample; lower crop"):
        fit(tmp_path / "none", recipe)
