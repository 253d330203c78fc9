"""OneFormer: inputs made per image, three tasks from one training, scoring of our own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.oneformer.segmenter import build_model
from instsynth_dagster.segmenters.oneformer.tasks import (
    INSTANCE,
    PANOPTIC,
    SEMANTIC,
    TASKS,
    TaskBatches,
    all_classes,
    segments,
    task_targets,
    texts,
)
from instsynth_dagster.segmenters.shared import maps
from instsynth_dagster.segmenters.shared.scoring import Geometry
from tests.segmenters.toy import TINY_RESNET, ToyDataset, tiny

THINGS = ("person", "car", "motorcycle")
CLASSES = all_classes(THINGS, labels=CITYSCAPES)
TOKENIZER = "checkpoints/mini-clip"
SEGMENTER = get_segmenter("oneformer")
ARCHITECTURE = {
    "backbone_config": TINY_RESNET,
    "conv_dim": 64,
    "mask_dim": 64,
    "hidden_dim": 64,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "query_dec_layers": 1,
    "num_attention_heads": 2,
    "encoder_feedforward_dim": 32,
    "dim_feedforward": 32,
    "num_queries": 8,
    "train_num_points": 64,
    "text_encoder_width": 64,
    "text_encoder_num_layers": 1,
    "text_encoder_n_ctx": 2,
    "text_encoder_context_length": 16,
    "task_seq_len": 16,
}


def recipe(**changes):
    return tiny(**({"kind": "oneformer", "architecture": ARCHITECTURE, "tokenizer": TOKENIZER} | changes))


def fit(folder: Path, settings, seed: int = 0):
    arguments = {"classes": THINGS, "seed": seed, "out": folder / "checkpoint", "scratch": folder / "scratch"}
    return SEGMENTER.fit(ToyDataset(), settings, **arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oneformer")
    return folder, fit(folder, recipe())


def street() -> torch.Tensor:
    """Road, sky, an unlabelled corner, two cars, a person and a crowd."""
    ids = torch.full((12, 16), CITYSCAPES.by_name["road"].id, dtype=torch.int32)
    ids[:4] = CITYSCAPES.by_name["sky"].id
    ids[0, 0] = 0
    ids[5:8, 2:5], ids[5:8, 8:11], ids[9:12, 0:3], ids[9:12, 12:] = 26000, 26001, 24256, 24
    return ids


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (SEMANTIC, {"road": 1, "sky": 1, "car": 1, "person": 1}),
        (INSTANCE, {"car": 2, "person": 1}),
        (PANOPTIC, {"road": 1, "sky": 1, "car": 2, "person": 1}),
    ],
)
def test_a_task_names_its_segments(task: str, expected: dict[str, int]) -> None:
    masks, labels = segments(street(), CLASSES, task, labels=CITYSCAPES)
    names = [CLASSES[index] for index in labels.tolist()]
    assert {name: names.count(name) for name in names} == expected
    assert (masks.sum(0) <= 1).all()
    assert not masks[:, 9:12, 12:].any()  # the crowd
    car = masks[labels == CLASSES.index("car")].sum((1, 2))
    assert car.tolist() == ([18] if task == SEMANTIC else [9, 9])


def test_an_image_without_things_has_no_segments_to_find() -> None:
    masks, labels = segments(torch.full((4, 5), 7, dtype=torch.int32), CLASSES, INSTANCE, labels=CITYSCAPES)
    assert masks.shape == (0, 4, 5)
    assert labels.shape == (0,)


def test_every_task_is_drawn_and_the_draw_is_seeded() -> None:
    targets = task_targets(THINGS, labels=CITYSCAPES)

    def drawn(seed: int) -> list[str]:
        torch.manual_seed(seed)
        return [targets(street())["task"] for _ in range(40)]

    assert set(drawn(1)) == set(TASKS)
    assert drawn(1) == drawn(1) != drawn(2)


def test_texts_are_of_this_image_alone() -> None:
    """The library's processor writes the classes of the images before it into the list of each image."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(TOKENIZER)
    batches = TaskBatches(tokenizer, CLASSES, 16, 16, num_texts=4)
    pixels = torch.zeros(3, 8, 8)
    car, person = CLASSES.index("car"), CLASSES.index("person")
    items = [
        {"pixel_values": pixels, "mask_labels": torch.ones(2, 8, 8), "class_labels": torch.tensor([car, car])},
        {"pixel_values": pixels, "mask_labels": torch.ones(1, 8, 8), "class_labels": torch.tensor([person])},
        {"pixel_values": pixels, "mask_labels": torch.ones(0, 8, 8), "class_labels": torch.tensor([]).long()},
    ]
    batch = batches([item | {"task": task} for item, task in zip(items, TASKS, strict=True)])
    lines = [tokenizer.batch_decode(rows, skip_special_tokens=True) for rows in batch["text_inputs"]]
    assert [[line.split("!")[0].strip() for line in row] for row in lines] == [
        ["a photo with a car"] * 2 + ["a semantic photo"] * 2,
        ["a photo with a person"] + ["a instance photo"] * 3,
        ["a panoptic photo"] * 4,
    ]
    assert batch["text_inputs"].shape == (3, 4, 16)
    assert batch["task_inputs"].shape == (3, 16)
    assert len({tuple(row.tolist()) for row in batch["task_inputs"]}) == 3
    assert texts([car] * 9, INSTANCE, CLASSES, 3) == ["a photo with a car"] * 3


@pytest.mark.slow
def test_one_training_answers_three_tasks(trained) -> None:
    folder, result = trained
    assert result.curve["loss"].notna().all()
    predictor = SEGMENTER.load(folder / "checkpoint", recipe(), labels=CITYSCAPES)
    image = ToyDataset()[0][0]
    (table,) = predictor.predict([image])
    assert set(table["class_name"]) <= set(THINGS)
    assert table["score"].between(0, 1).all()
    found = predictor.maps(image)
    assert found.panoptic.shape == found.semantic.shape == image.shape[:2]
    assert (found.panoptic.dtype, found.semantic.dtype) == (np.int32, np.int32)
    assert set(np.unique(found.semantic)) <= {CITYSCAPES.by_name[name].id for name in CLASSES}
    answers = [predictor.task_outputs(torch.zeros(1, 3, 64, 96), task)[0] for task in TASKS]
    assert not torch.allclose(answers[0], answers[1])
    assert not torch.allclose(answers[1], answers[2])


@pytest.mark.slow
def test_the_checkpoint_is_for_inference_and_trains_on(trained, tmp_path) -> None:
    folder = trained[0] / "checkpoint"
    config = json.loads((folder / "config.json").read_text())
    assert config["is_training"] is False
    assert not [
        name for name in (folder / "model.safetensors").read_bytes()[:20000].split(b'"') if b"text_mapper" in name
    ]
    model = build_model(recipe(model=str(folder), tokenizer=None, architecture={}), THINGS, labels=CITYSCAPES)
    assert model.model.is_training
    assert model.model.text_mapper is not None
    fit(tmp_path, recipe(model=str(folder), steps=1, checkpoint_every=1))


@pytest.mark.slow
def test_the_text_branch_is_a_switch(tmp_path) -> None:
    result = fit(tmp_path, recipe(text_branch=False, batch_size=1))
    assert result.curve["loss"].notna().all()
    with pytest.raises(SettingsError, match="contrastive loss of one image is always 0"):
        fit(tmp_path, recipe(batch_size=1))


@pytest.mark.slow
def test_the_contrastive_loss_takes_part(tmp_path) -> None:
    def first_loss(weight: float, name: str) -> float:
        architecture = ARCHITECTURE | {"contrastive_weight": weight}
        return float(fit(tmp_path / name, recipe(steps=1, architecture=architecture)).curve["loss"].iloc[0])

    assert first_loss(0.5, "with") > first_loss(0.0, "without") + 0.1


@pytest.mark.slow
def test_it_grows_from_a_mask2former() -> None:
    source = "checkpoints/mini-mask2former"
    sizes = {"conv_dim": 64, "mask_dim": 64, "hidden_dim": 64, "num_attention_heads": 4, "decoder_layers": 3}
    sizes |= {"encoder_feedforward_dim": 128, "dim_feedforward": 256}
    small = {key: value for key, value in ARCHITECTURE.items() if key not in (*sizes, "backbone_config")}
    model = build_model(recipe(model=source, architecture=small | sizes), THINGS, labels=CITYSCAPES)
    start = get_segmenter("mask2former").restore(Path(source))[0].state_dict()
    own = model.state_dict()
    pixels = "model.pixel_level_module.decoder."
    decoder = "model.transformer_module.decoder."
    for theirs, ours in {
        f"{pixels}mask_projection.weight": f"{pixels}mask_projection.weight",
        f"{decoder}layers.1.cross_attn.in_proj_weight": f"{decoder}layers.1.cross_attn.multihead_attn.in_proj_weight",
        f"{decoder}layers.0.fc2.weight": f"{decoder}layers.0.ffn.linear2.weight",
        f"{decoder}layernorm.weight": f"{decoder}decoder_norm.weight",
        f"{decoder}mask_predictor.mask_embedder.0.0.weight": f"{decoder}mask_embed.layers.0.0.weight",
    }.items():
        assert torch.equal(own[ours], start[theirs]), ours
    backbone = [name for name in start if name.startswith("model.pixel_level_module.encoder.")]
    assert backbone
    assert all(torch.equal(own[name], start[name]) for name in backbone)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"tokenizer": None}, SettingsError, "segmenters.tokenizer"),
        ({"tokenizer": "tests"}, CheckpointError, "no tokenizer"),
        ({"architecture": {"conv_dimension": 3}}, SettingsError, "unknown key 'conv_dimension'"),
        ({"architecture": ARCHITECTURE | {"text_encoder_width": 32}}, SettingsError, "must be equal"),
        ({"model": "checkpoints/mini-clip"}, CheckpointError, "mini-clip"),
    ],
)
def test_a_user_error_is_one_clear_line(changes, error, says) -> None:
    with pytest.raises(error, match=says) as caught:
        build_model(recipe(**changes), THINGS, labels=CITYSCAPES)
    assert "\n" not in str(caught.value)


def logits(rows: list[tuple[int, float]]) -> torch.Tensor:
    """Class logits of queries (class, logit); the other classes at 0."""
    found = torch.zeros(len(rows), len(CLASSES) + 1)
    for query, (index, value) in enumerate(rows):
        found[query, index] = value
    return found


def test_maps_of_known_queries() -> None:
    road, car = CLASSES.index("road"), CLASSES.index("car")
    size = (4, 8)
    masks = torch.full((5, *size), -9.0)
    masks[0] = 1.0  # road, everywhere
    masks[1, :2, :4] = 9.0  # a car
    masks[2, :2, 4:] = 9.0  # another
    masks[3, :2, :4] = 3.0  # its double, which wins nowhere
    masks[4] = 9.0  # unsure
    classes = logits([(road, 9), (car, 9), (car, 9), (car, 8), (car, 0.5)])
    geometry = Geometry(size, size, size)
    panoptic = maps.panoptic_map(classes, masks, CLASSES, geometry, labels=CITYSCAPES)
    assert np.unique(panoptic).tolist() == [0, 26000, 26001] or (panoptic[2:] == 7).all()
    assert (panoptic[:2, :4] == 26000).all()
    assert (panoptic[:2, 4:] == 26001).all()
    semantic = maps.semantic_map(classes, masks, CLASSES, geometry, labels=CITYSCAPES)
    assert (semantic[:2] == 26).all()
    assert (semantic[2:] == 7).all()


def test_nothing_sure_leaves_the_map_empty() -> None:
    geometry = Geometry((4, 8), (4, 8), (4, 8))
    assert not maps.panoptic_map(logits([(0, 0.1)]), torch.ones(1, 4, 8), CLASSES, geometry, labels=CITYSCAPES).any()
