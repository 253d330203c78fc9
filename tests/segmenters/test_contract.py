"""What every segmenter keeps, each with a tiny configuration of the real class."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters.contract import PREDICTION_COLUMNS, FitResult, get_segmenter
from instsynth_dagster.segmenters.rf_detr import with_boxes
from tests.segmenters.test_oneformer import ARCHITECTURE as ONEFORMER
from tests.segmenters.toy import TINY_ARCHITECTURE, TINY_RESNET, ToyDataset, tiny

CLASSES = ("person", "car", "motorcycle")
TINY = {
    "mask2former": {"architecture": TINY_ARCHITECTURE},
    "oneformer": {"architecture": ONEFORMER, "tokenizer": "checkpoints/mini-clip"},
    "fastinst": {
        "architecture": {
            "backbone_config": TINY_RESNET,
            "hidden_dim": 32,
            "pyramid_dim": 8,
            "decoder_layers": 1,
            "num_attention_heads": 2,
            "feedforward_dim": 32,
            "num_queries": 6,
            "num_auxiliary_queries": 2,
            "train_num_points": 64,
        }
    },
    "generative": {
        "architecture": {
            "extractor": {"kind": "conv", "widths": [8, 16]},
            "num_proposals": 8,
            "dim": 16,
            "stages": 2,
            "heads": 2,
            "feedforward_dim": 16,
            "dynamic_dim": 4,
        }
    },
    "eomt": {
        "crop": (64, 64),
        "architecture": {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_blocks": 2,
            "num_queries": 6,
            "train_num_points": 64,
            "patch_size": 16,
        },
    },
    "rf_detr": {
        "architecture": {
            "backbone_config": {
                "model_type": "rf_detr_dinov2",
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "patch_size": 8,
                "num_windows": 2,
                "image_size": 64,
                "out_features": ["stage1", "stage2"],
            },
            "d_model": 32,
            "num_queries": 8,
            "decoder_layers": 2,
            "decoder_self_attention_heads": 2,
            "decoder_cross_attention_heads": 2,
            "decoder_ffn_dim": 32,
            "group_detr": 2,
            "intermediate_size": 64,
            "dropout": 0.0,
        }
    },
}


def recipe(kind: str, **changes):
    return tiny(**({"kind": kind, "steps": 3, "checkpoint_every": 2} | TINY[kind] | changes))


def fit(folder, kind: str, dataset=None, progress=None, **changes):
    return get_segmenter(kind).fit(
        dataset or ToyDataset(),
        recipe(kind, **changes),
        classes=CLASSES,
        seed=0,
        out=folder / "checkpoint",
        scratch=folder / "scratch",
        progress=progress,
    )


@pytest.fixture(scope="module", params=TINY)
def trained(request, tmp_path_factory) -> tuple[str, FitResult]:
    """A kind and what one step of training left; only read."""
    return request.param, fit(tmp_path_factory.mktemp(request.param), request.param, steps=1)


class Killed(Exception):
    pass


def kill_after(step: int):
    def progress(done: int, *_: float) -> None:
        if done == step:
            raise Killed

    return progress


class Empty(ToyDataset):
    """Images without a single instance."""

    def __getitem__(self, index):
        image, ids = super().__getitem__(index)
        return image, np.full_like(ids, 7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TINY)
def test_a_killed_training_ends_as_an_undisturbed_one(kind, tmp_path) -> None:
    whole = fit(tmp_path / "whole", kind)
    with pytest.raises(Killed):
        fit(tmp_path / "killed", kind, progress=kill_after(3))
    resumed = fit(tmp_path / "killed", kind)
    pd.testing.assert_frame_equal(whole.curve, resumed.curve)
    ours, theirs = (load_file(tmp_path / name / "checkpoint" / "model.safetensors") for name in ("whole", "killed"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_predictions_keep_the_contract(trained) -> None:
    kind, result = trained
    predictor = get_segmenter(kind).load(result.folder, recipe(kind), labels=CITYSCAPES)
    images = [ToyDataset(1, size=size)[0][0] for size in ((72, 104), (51, 77))]
    tables = predictor.predict(images)
    for image, table in zip(images, tables, strict=True):
        assert list(table.columns) == list(PREDICTION_COLUMNS)
        assert len(table) <= 12
        assert set(table["class_name"]) <= set(CLASSES)
        assert table["score"].between(0, 1).all()
        assert (table["score"].diff().dropna() <= 0).all()
        for row in table.itertuples():
            mask = decode_rle({"size": [row.mask_height, row.mask_width], "counts": row.mask_counts})
            assert mask.shape == image.shape[:2]
            assert mask.any()
    pd.testing.assert_frame_equal(predictor.predict(images[1:])[0], tables[1])
    maps = predictor.maps(images[0])
    assert (maps is None) == (kind != "oneformer")


@pytest.mark.slow
@pytest.mark.parametrize("kind", TINY)
def test_images_without_instances_train_too(kind, tmp_path) -> None:
    assert fit(tmp_path, kind, Empty(), steps=1).curve["loss"].notna().all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", TINY)
def test_less_memory_gives_the_same_training(kind, tmp_path) -> None:
    """Recomputed activations change nothing but rounding."""
    plain = fit(tmp_path / "plain", kind, steps=2)
    frugal = fit(tmp_path / "frugal", kind, steps=2, gradient_checkpointing=True)
    assert frugal.curve["loss"].to_numpy() == pytest.approx(plain.curve["loss"].to_numpy(), rel=1e-4)
    ours, theirs = (load_file(tmp_path / n / "checkpoint" / "model.safetensors") for n in ("plain", "frugal"))
    assert ours.keys() == theirs.keys()


@pytest.mark.slow
def test_half_precision_gives_nearly_the_same_loss(trained, tmp_path) -> None:
    kind, result = trained
    half = fit(tmp_path, kind, steps=1, mixed_precision="bf16")
    losses = [float(found.curve["loss"].iloc[0]) for found in (result, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


@pytest.mark.slow
def test_a_model_trains_on_with_other_classes(trained, tmp_path) -> None:
    kind, result = trained
    changes = {"model": str(result.folder), "architecture": {}}
    segmenter = get_segmenter(kind)
    model = segmenter.build(recipe(kind, **changes), ("car", "bus"), labels=CITYSCAPES)
    segmenter.save(model.eval(), ("car", "bus"), tmp_path / "again")
    _, classes = segmenter.restore(tmp_path / "again")
    assert classes[-2:] == ("car", "bus")


@pytest.mark.parametrize("kind", TINY)
def test_a_folder_that_is_no_checkpoint_is_one_clear_line(kind, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        get_segmenter(kind).load(tmp_path, recipe(kind), labels=CITYSCAPES)


@pytest.mark.slow
def test_eomt_reads_one_size(tmp_path) -> None:
    fit(tmp_path, "eomt", steps=1)
    with pytest.raises(SettingsError, match="reads 64x64; set crop to that"):
        get_segmenter("eomt").build(
            recipe("eomt", model=str(tmp_path / "checkpoint"), crop=(32, 32)), CLASSES, labels=CITYSCAPES
        )


def test_rf_detr_names_the_crops_it_can_read() -> None:
    with pytest.raises(SettingsError, match="multiples of 16"):
        get_segmenter("rf_detr").build(recipe("rf_detr", crop=(60, 96)), CLASSES, labels=CITYSCAPES)


def test_boxes_are_those_of_the_masks() -> None:
    masks = torch.zeros(1, 10, 20)
    masks[0, 2:6, 5:15] = 1
    item = {"pixel_values": torch.zeros(3, 10, 20), "mask_labels": masks, "class_labels": torch.tensor([1])}
    (label,) = with_boxes([item])["labels"]
    assert label["boxes"].tolist() == [pytest.approx([0.5, 0.4, 0.5, 0.4])]
