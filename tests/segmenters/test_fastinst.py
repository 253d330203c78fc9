"""FastInst: sizes, queries, losses, training, round trip and export."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters.contract import PREDICTION_COLUMNS, get_segmenter
from instsynth_dagster.segmenters.fastinst.config import FastInstConfig
from instsynth_dagster.segmenters.fastinst.decoder import where_allowed
from instsynth_dagster.segmenters.fastinst.losses import Criterion, Targets
from instsynth_dagster.segmenters.fastinst.model import FastInst
from instsynth_dagster.segmenters.fastinst.proposals import activation_scores
from instsynth_dagster.settings import SegmenterSettings
from tests.segmenters.toy import TINY_RESNET, ToyDataset, tiny

CLASSES = ("person", "car")
TINY = {
    "backbone_config": TINY_RESNET,
    "hidden_dim": 32,
    "pyramid_dim": 8,
    "decoder_layers": 2,
    "num_attention_heads": 2,
    "feedforward_dim": 32,
    "num_queries": 6,
    "num_auxiliary_queries": 2,
    "train_num_points": 64,
}


def recipe(**changes) -> SegmenterSettings:
    return tiny(kind="fastinst", **({"architecture": TINY} | changes))


def model(**changes) -> FastInst:
    torch.manual_seed(0)
    return FastInst(FastInstConfig(classes=CLASSES, **(TINY | changes)))


def labels(*counts: int, size=(64, 96)):
    generator = torch.Generator().manual_seed(0)
    masks, classes = [], []
    for count in counts:
        drawn = torch.zeros(count, *size)
        for mask in drawn:
            top, left = (int(torch.randint(0, side - 12, (), generator=generator)) for side in size)
            mask[top : top + 12, left : left + 12] = 1
        masks.append(drawn)
        classes.append(torch.randint(0, 2, (count,), generator=generator))
    return masks, classes


def test_r50_d3_has_the_published_number_of_parameters():
    """34 M in the paper's Table 1, of 80 classes."""
    resnet50 = transformers.ResNetConfig(out_features=["stage1", "stage2", "stage3", "stage4"]).to_dict()
    with torch.device("meta"):
        built = FastInst(FastInstConfig(classes=tuple(map(str, range(80))), backbone_config=resnet50))
    assert sum(parameter.numel() for parameter in built.parameters()) == pytest.approx(34e6, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (120, 3)])
@pytest.mark.parametrize("size", [(64, 96), (70, 101), (360, 720)])
def test_loss_is_defined_for_any_number_of_instances_and_any_size(counts, size):
    masks, classes = labels(*counts, size=size)
    output = model()(torch.randn(2, 3, *size), masks, classes)
    assert torch.isfinite(output["loss"])
    assert output["class_logits"].shape == (2, 6, 3)
    padded = [-(-side // 32) * 4 for side in size]
    assert output["mask_logits"].shape == (2, 6, *padded)
    output["loss"].backward()


def test_every_parameter_learns():
    built = model()
    masks, classes = labels(3, 2)
    built(torch.randn(2, 3, 64, 96), masks, classes)["loss"].backward()
    # features finer than stride 8 are not read, so nothing beyond them is missing
    silent = {name for name, p in built.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert silent <= {"heads.0.pixels.bias"}


def test_mask_guided_learning_adds_the_true_masks_to_what_is_learnt():
    masks, classes = labels(3, 2)
    pixels = torch.randn(2, 3, 64, 96)
    losses = {}
    for guided in (True, False):
        built = model(mask_guided=guided)
        torch.manual_seed(1)
        losses[guided] = float(built(pixels, masks, classes)["loss"])
    assert losses[True] > 1.2 * losses[False]  # as many terms again as the model has layers


def test_an_image_does_not_depend_on_its_neighbour():
    built = model().eval()
    pixels = torch.randn(2, 3, 64, 96)
    both, alone = built(pixels), built(pixels[:1])
    for name in both:
        torch.testing.assert_close(both[name][:1], alone[name], rtol=1e-4, atol=1e-5)


def test_local_maxima_of_their_class_come_first():
    logits = torch.full((1, 3, 5, 5), -4.0)
    logits[:, 2] = 0
    logits[0, 0, 1, 1], logits[0, 0, 1, 2] = 3.0, 2.9  # the neighbour of a peak is no peak
    logits[0, 1, 1, 3] = 1.0  # a weaker peak of another class beside them is one
    order = activation_scores(logits)[0].flatten().argsort(descending=True).tolist()
    assert order[:2] == [1 * 5 + 1, 1 * 5 + 3]
    assert order.index(1 * 5 + 2) > 1


def test_a_query_without_a_mask_may_look_everywhere():
    masks = torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    masks[0, 0, 0, 1] = True
    allowed = where_allowed(masks, 3)
    assert allowed.tolist() == [[[False, True, False, False], [True] * 4, [True] * 4]]


def test_a_query_answers_for_the_instance_it_sits_in():
    criterion = Criterion(FastInstConfig(classes=CLASSES, **TINY))
    masks, classes = torch.zeros(2, 16, 16), torch.tensor([0, 1])
    masks[0, :8], masks[1, 8:] = 1, 1
    logits = torch.zeros(1, 2, 3)
    logits[0, 0, 0] = logits[0, 1, 1] = 5  # by class, query 0 would take instance 0
    locations = torch.tensor([[[0.5, 0.9], [0.5, 0.1]]])
    ((queries, instances),) = criterion.match(logits, torch.zeros(1, 2, 4, 4), locations, Targets([masks], [classes]))
    assert dict(zip(queries.tolist(), instances.tolist(), strict=True)) == {0: 1, 1: 0}


def test_the_proposal_loss_wants_one_pixel_of_each_instance():
    criterion = Criterion(FastInstConfig(classes=CLASSES, **TINY))
    masks, classes = torch.zeros(1, 16, 16), torch.tensor([1])
    masks[0, 4:12, 4:12] = 1
    losses = {}
    for place in (None, (2, 1), (0, 0)):
        logits = torch.zeros(1, 3, 4, 4)
        logits[:, 2] = 8
        if place:
            logits[0, 2][place], logits[0, 1][place] = 0, 8
        losses[place] = float(criterion.proposal_loss(logits, Targets([masks], [classes])))
    assert losses[2, 1] == min(losses.values()) < 0.1
    assert losses[0, 0] > losses[None]


def test_matching_is_the_cheapest_of_all(tmp_path):
    """Without locations the match is the permutation of least cost, by trying all."""
    torch.manual_seed(1)
    config = FastInstConfig(classes=CLASSES, **(TINY | {"location_weight": 0, "mask_weight": 0, "dice_weight": 0}))
    logits, masks = torch.randn(1, 4, 3), torch.randn(1, 4, 8, 8)
    truth, classes = torch.rand(3, 8, 8).round(), torch.tensor([0, 1, 1])
    ((queries, instances),) = Criterion(config).match(logits, masks, torch.rand(1, 4, 2), Targets([truth], [classes]))
    probability = logits[0].softmax(-1)[:, classes]
    best = max(sum(probability[q, i] for i, q in enumerate(order)) for order in permutations(range(4), 3))
    torch.testing.assert_close(probability[queries, instances].sum(), best)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("fastinst")
    fit = {"classes": CLASSES, "seed": 3}
    result = get_segmenter("fastinst").fit(ToyDataset(), recipe(), out=root / "out", scratch=root / "scratch", **fit)
    return result, fit


@pytest.mark.slow
def test_a_killed_training_ends_as_if_it_had_never_been_killed(trained, tmp_path):
    class Killed(Exception):
        pass

    def kill(done, *_):
        if done == 3:
            raise Killed

    result, fit = trained
    arguments = {"out": tmp_path / "out", "scratch": tmp_path / "scratch"} | fit
    with pytest.raises(Killed):
        get_segmenter("fastinst").fit(ToyDataset(), recipe(), progress=kill, **arguments)
    resumed = get_segmenter("fastinst").fit(ToyDataset(), recipe(), **arguments)
    pd.testing.assert_frame_equal(resumed.curve, result.curve)
    assert (resumed.folder / "model.safetensors").read_bytes() == (result.folder / "model.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 200)])
def test_predictions_are_masks_of_the_image(trained, size):
    result, _ = trained
    predictor = get_segmenter("fastinst").load(result.folder, recipe(), labels=CITYSCAPES)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (table,) = predictor.predict([image])
    assert list(table) == list(PREDICTION_COLUMNS)
    assert set(table["class_name"]) <= set(CLASSES)
    assert table["score"].is_monotonic_decreasing
    assert (table[["mask_height", "mask_width"]].to_numpy() == size).all()


@pytest.mark.slow
def test_a_trained_model_starts_another_with_new_classes(trained, tmp_path):
    result, _ = trained
    segmenter = get_segmenter("fastinst")
    start = recipe(model=str(result.folder), architecture={})
    same, grown = (
        segmenter.build(start, CLASSES, labels=CITYSCAPES),
        segmenter.build(start, (*CLASSES, "bus"), labels=CITYSCAPES),
    )
    before = segmenter.restore(result.folder)[0].state_dict()
    for name, value in same.state_dict().items():
        assert torch.equal(value, before[name])
    torch.testing.assert_close(
        grown.state_dict()["layers.0.between_queries.query.weight"], before["layers.0.between_queries.query.weight"]
    )
    assert grown.sizes.classes[-1] == "bus"


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [{"quries": 3}, {"num_queries": "many"}, {"hidden_dim": 31}])
def test_what_does_not_fit_a_trained_model_is_one_clear_line(trained, wrong):
    start = recipe(model=str(trained[0].folder), architecture=wrong)
    with pytest.raises(SettingsError, match=r"segmenters\.architecture") as caught:
        get_segmenter("fastinst").build(start, CLASSES, labels=CITYSCAPES)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_it_exports_without_python_that_depends_on_data(tmp_path):
    built = model().eval()
    pixels = torch.randn(1, 3, 64, 96)
    program = torch.export.export(built, (pixels,), strict=False)
    other = torch.randn(1, 3, 64, 96)
    for name, value in program.module()(other).items():
        torch.testing.assert_close(value, built(other)[name])


def test_what_is_wrong_is_one_clear_line(tmp_path):
    segmenter = get_segmenter("fastinst")
    with pytest.raises(SettingsError, match=r"segmenters\.architecture\.quries: "):
        segmenter.build(recipe(architecture=TINY | {"quries": 3}), CLASSES, labels=CITYSCAPES)
    with pytest.raises(SettingsError, match=r"segmenters\.architecture\.backbone_config: "):
        segmenter.build(recipe(architecture={}), CLASSES, labels=CITYSCAPES)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        segmenter.load(tmp_path, recipe(), labels=CITYSCAPES)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be loaded as FastInst"):
        segmenter.load(tmp_path, recipe(), labels=CITYSCAPES)
