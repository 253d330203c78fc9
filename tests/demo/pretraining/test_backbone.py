import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from instsynth_dagster.demo.pretraining import backbone
from instsynth_dagster.demo.pretraining.backbone import (
    CANVAS,
    GRIDS,
    CollageClassifier,
    Collages,
    measure_accuracy,
    tile_features,
    train_backbone,
)
from instsynth_dagster.demo.pretraining.recipe import Recipe

COLORS = {"red car": (220, 30, 30), "blue bus": (30, 30, 220), "green bus": (30, 200, 30)}
TINY = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}


@pytest.fixture(autouse=True)
def tiny_architecture(monkeypatch):
    monkeypatch.setattr(backbone, "ARCHITECTURE", TINY)


def corpus(length=48):
    generator = np.random.default_rng(0)
    names = generator.choice(list(COLORS), length).tolist()
    crops = generator.integers(0, 60, (length, 24, 24, 3), dtype=np.uint8)
    for crop, name in zip(crops, names, strict=True):
        crop[6:18, 6:18] = COLORS[name]
    return crops, names


def test_every_tile_of_a_collage_shows_the_crop_that_its_label_names():
    crops = np.arange(40, dtype=np.uint8).repeat(24 * 24 * 3).reshape(40, 24, 24, 3) + 100
    collages = Collages(crops, np.arange(40), seed=0, collages=3, batch_size=1)
    for index, grid in enumerate(GRIDS):
        item = collages[index]
        assert item["pixel_values"].shape == (3, CANVAS, CANVAS)
        assert item["labels"].shape == (grid, grid)
        side = CANVAS // grid
        for y in range(grid):
            for x in range(grid):
                tile = item["pixel_values"][:, y * side : (y + 1) * side, x * side : (x + 1) * side].float()
                assert tile.std() < 0.51
                assert 0.69 < tile.mean() / (100 + item["labels"][y, x]) < 1.31


def test_a_collage_is_a_pure_function_of_seed_and_number():
    crops, names = corpus()
    labels = np.unique(names, return_inverse=True)[1]
    one, two = (Collages(crops, labels, seed=3, collages=9, batch_size=2) for _ in range(2))
    backwards = [two[i] for i in reversed(range(9))][::-1]
    assert all(torch.equal(one[i]["pixel_values"], backwards[i]["pixel_values"]) for i in range(9))
    other = Collages(crops, labels, seed=4, collages=9, batch_size=2)
    assert not torch.equal(one[0]["pixel_values"], other[0]["pixel_values"])


def test_tile_features_are_means_under_the_tiles():
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert tile_features(features, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert tile_features(features, 1).item() == 7.5


@pytest.mark.slow
def test_shipped_network_fits_its_budget(monkeypatch):
    monkeypatch.undo()
    labels = dict(enumerate(range(54)))
    model = transformers.ResNetForImageClassification(
        transformers.AutoConfig.for_model("resnet", **backbone.ARCHITECTURE, id2label=labels)
    )
    assert 2 * sum(p.numel() for p in model.parameters()) <= 4 * 2**20


@pytest.mark.slow
def test_learns_names_resumes_to_the_bit_and_ships_a_standard_folder(tmp_path):
    crops, names = corpus()
    recipe = Recipe(steps=90, batch_size=4, checkpoint_every=30, learning_rate=5e-3, mixed_precision="no")

    class Killed(Exception):
        pass

    def kill(done, total, *loss):
        if done == 70:
            raise Killed

    def run(folder, progress=None):
        return train_backbone(
            crops, names, out=folder / "out", scratch=folder / "scratch", recipe=recipe, progress=progress
        )

    undisturbed = run(tmp_path / "a")
    with pytest.raises(Killed):
        run(tmp_path / "b", kill)
    resumed = run(tmp_path / "b")
    assert undisturbed.curve.equals(resumed.curve)
    first, second = (load_file(tmp_path / name / "out" / "model.safetensors") for name in "ab")
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert first["classifier.1.weight"].dtype == torch.float16
    assert undisturbed.curve["loss"].iloc[-1] < 0.5 * undisturbed.curve["loss"].iloc[0]
    accuracy = measure_accuracy(tmp_path / "a" / "out", crops, names)
    assert accuracy["class"] >= accuracy["name"] > 0.9
    config = transformers.AutoConfig.from_pretrained(tmp_path / "a" / "out")
    assert sorted(config.id2label.values()) == sorted(COLORS)


def test_auxiliary_classifiers_get_gradients():
    config = transformers.AutoConfig.for_model("resnet", **TINY, id2label={0: "red car", 1: "blue bus"})
    model = CollageClassifier(transformers.ResNetForImageClassification(config))
    pixels = torch.randint(0, 255, (2, 3, CANVAS, CANVAS), dtype=torch.uint8)
    model(pixels, torch.zeros(2, 2, 2, dtype=torch.int64))["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.auxiliary.parameters())
