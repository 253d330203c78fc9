"""The generative segmenter: noise, matching, dynamic masks, losses, windows, few-shot fine-tuning."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional as F

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame
from instsynth_dagster.models.denoising import cosine_schedule
from instsynth_dagster.segmenters.contract import Predictor, get_segmenter
from instsynth_dagster.segmenters.generative.boxes import (
    noised,
    repeated,
    to_boxes,
    to_normalised,
    to_pixels,
    to_signal,
)
from instsynth_dagster.segmenters.generative.config import GenerativeConfig
from instsynth_dagster.segmenters.generative.decoder import PRIOR, Decoder, Prediction, pooled
from instsynth_dagster.segmenters.generative.dynamic_masks import dynamic_masks, kernel_length, layer_sizes
from instsynth_dagster.segmenters.generative.inference import denoise, windows
from instsynth_dagster.segmenters.generative.losses import Truth, total_loss
from instsynth_dagster.segmenters.generative.matching import match
from instsynth_dagster.segmenters.shared.augmentation import ignored_objects
from tests.segmenters.toy import ToyDataset, tiny

CLASSES = ("person", "car", "motorcycle")


MODEL = "checkpoints/mini-sd-inpaint"


SMALL = {"num_proposals": 20, "dim": 16, "stages": 2, "heads": 2, "feedforward_dim": 32, "dynamic_dim": 4}


CONV = {"extractor": {"kind": "conv", "widths": (8, 16, 16)}, **SMALL}


UNET = {"extractor": {"kind": "unet", "model": MODEL}, **SMALL}


def config(**changes) -> GenerativeConfig:
    return GenerativeConfig.model_validate({"classes": CLASSES, **CONV, **changes})


def fit(folder, architecture=CONV, dataset=None, progress=None, classes=CLASSES, **changes):
    recipe = tiny(**({"kind": "generative", "steps": 4, "architecture": architecture, "grad_clip": 1.0} | changes))
    segmenter = get_segmenter("generative")
    result = segmenter.fit(
        dataset or ToyDataset(),
        recipe,
        classes=classes,
        seed=0,
        out=folder / "c",
        scratch=folder / "s",
        progress=progress,
    )
    return result, segmenter.load(folder / "c", recipe, labels=CITYSCAPES)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_the_schedule_is_the_published_one(steps: int) -> None:
    """The cosine schedule (s = 0.008), the grid linspace(-1, 999), and DDIM with eta 1, in closed form."""
    schedule = cosine_schedule(2.0)
    t = np.arange(1001) / 1000
    bar = np.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    betas = np.clip(1 - bar[1:] / bar[:-1], 0, 0.999)
    alphas = np.cumprod(1 - betas)
    np.testing.assert_allclose(schedule.alphas_cumprod.numpy(), alphas, atol=1e-5)
    schedule.set_timesteps(steps)
    grid = [int(x) for x in np.linspace(-1, 999, steps + 1)][::-1]
    assert schedule.timesteps.tolist() == grid[:-1]
    generator = torch.Generator().manual_seed(0)
    state, clean, noise = (torch.randn(5, 4, generator=generator).clamp(-2, 2) for _ in range(3))
    now, after = grid[0], grid[1]
    moved = schedule.step(clean, torch.tensor(now), state, eta=1.0, variance_noise=noise).prev_sample
    if after < 0:
        torch.testing.assert_close(moved, clean)
        return
    eps = (state - math.sqrt(alphas[now]) * clean) / math.sqrt(1 - alphas[now])
    sigma = math.sqrt((1 - alphas[now] / alphas[after]) * (1 - alphas[after]) / (1 - alphas[now]))
    c = math.sqrt(1 - alphas[after] - sigma**2)
    torch.testing.assert_close(moved, math.sqrt(alphas[after]) * clean + c * eps + sigma * noise, atol=1e-3, rtol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 999), st.integers(0, 1000))
def test_noised_boxes_are_as_many_as_wanted_and_inside(count: int, step: int, seed: int) -> None:
    torch.manual_seed(seed)
    truth = torch.rand(count, 4) * 0.8 + 0.1
    boxes = noised(truth, 20, torch.tensor(step), cosine_schedule(2.0), 2.0)
    assert boxes.shape == (20, 4)
    assert ((boxes >= 0) & (boxes <= 1)).all()


def test_without_noise_the_truth_comes_back() -> None:
    truth = torch.rand(7, 4) * 0.8 + 0.1
    pixels = to_pixels(to_boxes(to_signal(truth, 2.0), 2.0), (128, 256))
    torch.testing.assert_close(to_normalised(pixels, (128, 256)), truth, atol=1e-4, rtol=0)
    assert (repeated(truth, 20)[:14] == truth.repeat(2, 1)).all()
    assert repeated(truth[:0], 3)[0].tolist() == [0.5, 0.5, 1.0, 1.0]


@st.composite
def pair_costs(draw) -> tuple[torch.Tensor, torch.Tensor]:
    queries, instances = draw(st.integers(1, 12)), draw(st.integers(0, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    return torch.rand(queries, instances, generator=generator), torch.rand(queries, instances, generator=generator)


@settings(max_examples=150, deadline=None)
@given(pair_costs(), st.integers(0, 1000))
def test_matching_serves_every_instance(given_costs, seed: int) -> None:
    cost, iou = given_costs
    queries, instances = match(cost, iou, 5)
    assert len(queries.unique()) == len(queries)
    assert len(instances.unique()) == min(cost.shape)
    if cost.shape[1]:
        wanted = iou.topk(min(5, len(cost)), 0).values.sum(0).int().clamp(min=1)
        assert len(queries) <= max(int(wanted.sum()), cost.shape[1])
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(side, generator=generator) for side in cost.shape)
    again = match(cost[rows][:, columns], iou[rows][:, columns], 5)
    pairs = {(int(rows[q]), int(columns[i])) for q, i in zip(*again, strict=True)}
    assert pairs == set(zip(queries.tolist(), instances.tolist(), strict=True))


@pytest.mark.parametrize("rel_coords", [True, False])
def test_dynamic_masks_equal_a_loop_of_convolutions(rel_coords: bool) -> None:
    length = kernel_length(8, rel_coords)
    assert length == (169 if rel_coords else 153)
    torch.manual_seed(0)
    features, kernels = torch.randn(8, 6, 10), torch.randn(4, length)
    boxes = torch.tensor([[0.0, 0, 12, 8], [4, 4, 30, 20], [10, 2, 14, 22], [0, 0, 40, 24]])
    ours = dynamic_masks(features, kernels, boxes, 4, rel_coords)
    sizes = layer_sizes(8, rel_coords)
    for kernel, box, mask in zip(kernels, boxes, ours, strict=True):
        parts = kernel.split([i * o for i, o in sizes] + [o for _, o in sizes])
        x = features[None]
        if rel_coords:
            ys, xs = torch.meshgrid(torch.arange(6) * 4 + 2.0, torch.arange(10) * 4 + 2.0, indexing="ij")
            half = (box[2:] - box[:2]) / 2
            place = torch.stack([(xs - box[0]) / half[0] - 1, (ys - box[1]) / half[1] - 1]).clamp(-2, 2)
            x = torch.cat([x, place[None]], 1)
        for layer, (inputs, outputs) in enumerate(sizes):
            x = F.conv2d(x if layer == 0 else x.relu(), parts[layer].view(outputs, inputs, 1, 1), parts[layer + 3])
        torch.testing.assert_close(mask, x[0, 0], atol=1e-4, rtol=1e-4)


def test_regions_are_read_where_the_boxes_are() -> None:
    """On maps that hold their own coordinates a region's mean is the middle of its box, at every level."""
    strides, pyramid = (4, 8, 16), []
    for stride in strides:
        ys, xs = ((torch.arange(side // stride) + 0.5) * stride for side in (128, 256))
        place = torch.stack(torch.meshgrid(xs, ys, indexing="xy"))
        pyramid.append(torch.cat([place, torch.full_like(place[:1], stride)])[None])
    boxes = torch.tensor([[40.0, 30, 55, 50], [20, 20, 76, 76], [17, 8, 180, 120]])
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    regions = pooled(pyramid, strides, boxes[None]).mean((2, 3))
    torch.testing.assert_close(regions[:, :2], middles)
    assert regions[:, 2].tolist() == [4, 8, 16]
    both = pooled([torch.cat([level, -level]) for level in pyramid], strides, torch.stack([boxes, boxes.flip(0)]))
    torch.testing.assert_close(both[3:].mean((2, 3)), -regions.flip(0))


def test_stages_that_share_weights_are_one() -> None:
    own, shared = (
        sum(p.numel() for p in Decoder(config(stages=3, shared_stages=s), (4, 8, 16)).stages.parameters())
        for s in (False, True)
    )
    assert own == 3 * shared
    decoder = Decoder(config(stages=3, shared_stages=True), (4, 8, 16))
    pyramid = [torch.randn(1, 16, 64 // stride, 64 // stride) for stride in (4, 8, 16)]
    boxes = torch.tensor([[[4.0, 4, 30, 40], [20, 10, 60, 50]]])
    found = decoder(pyramid, boxes, torch.tensor([7]))
    assert len(found) == 3
    assert not torch.equal(found[0].boxes, found[1].boxes)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8])
def test_only_the_classifiers_bias_starts_at_the_prior(count: int) -> None:
    names = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")[:count]
    decoder = Decoder(config(classes=names), (4, 8, 16))
    prior = -math.log((1 - PRIOR) / PRIOR)
    for name, parameter in decoder.named_parameters():
        at_prior = bool(torch.isclose(parameter, torch.tensor(prior)).any())
        assert at_prior == name.endswith("class_logits.bias"), name


def predictions(boxes: torch.Tensor, logits: torch.Tensor) -> Prediction:
    return Prediction(logits[None], boxes[None], torch.zeros(1, len(boxes), kernel_length(8, True)))


def test_an_unannotated_object_is_nobodys_negative() -> None:
    """The loss does not change with what is predicted on an ignored object, and does elsewhere."""
    boxes = torch.tensor([[10.0, 10, 30, 30], [60.0, 10, 90, 40], [100.0, 40, 120, 60]])
    truth = Truth(boxes[:1], torch.tensor([1]), torch.ones(1, 16, 32), boxes[1:2])

    def loss(on_ignored: float, elsewhere: float) -> float:
        logits = torch.full((3, 3), -4.0)
        logits[1], logits[2] = on_ignored, elsewhere
        return total_loss([predictions(boxes, logits)], torch.zeros(1, 8, 16, 32), [truth], (64, 128), config()).item()

    assert loss(-4.0, -4.0) == loss(3.0, -4.0)
    assert loss(-4.0, 3.0) > loss(-4.0, -4.0)


def test_a_group_is_ignored_piece_by_piece() -> None:
    ids = torch.full((20, 40), 7, dtype=torch.int32)
    ids[2:8, 2:8], ids[10:18, 20:30], ids[2:6, 20:24] = 26, 26, 26003
    masks = ignored_objects(ids, labels=CITYSCAPES)
    assert masks.shape == (2, 20, 40)
    assert masks.sum((1, 2)).tolist() == [36, 80]


@pytest.mark.parametrize("count", [0, 1, 30])
def test_any_number_of_instances_and_any_size(count: int) -> None:
    model = get_segmenter("generative").build(tiny(kind="generative", architecture=CONV), CLASSES, labels=CITYSCAPES)
    masks = torch.zeros(count, 50, 70)
    for number in range(count):
        masks[number, number : number + 9, 2 * number : 2 * number + 7] = 1
    loss = model(torch.randn(1, 3, 50, 70), [masks], [torch.zeros(count, dtype=torch.int64)])["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_windows_cover_the_image() -> None:
    for size, window in (
        ((256, 512), (128, 256)),
        ((100, 130), (128, 256)),
        ((200, 300), None),
        ((130, 300), (64, 128)),
    ):
        covered = np.zeros(size, dtype=int)
        for x1, y1, x2, y2 in windows(size, window).round().int().tolist():
            assert 0 <= x1 < x2 <= size[1]
            assert 0 <= y1 < y2 <= size[0]
            covered[y1:y2, x1:x2] += 1
        assert covered.min() >= 1


def test_every_step_gives_its_candidates() -> None:
    """Of two steps both, in every window: the published code loses the last step's."""
    seen = []

    def decode(boxes: torch.Tensor, step: int) -> Prediction:
        seen.append(step)
        return Prediction(torch.full((*boxes.shape[:2], 3), -3.0), boxes, torch.zeros(*boxes.shape[:2], 4))

    frames = windows((64, 192), (64, 96))
    found = denoise(decode, cosine_schedule(2.0), frames, config(sample_steps=2))
    assert seen == [999, 499]
    assert found.boxes.shape == (2 * len(frames) * 20, 4)


@pytest.mark.slow
def test_a_short_training_halves_the_loss_and_finds_the_rectangles(tmp_path) -> None:
    wide = {"extractor": {"kind": "conv", "widths": (16, 32, 48)}, "num_proposals": 30, "dim": 32, "dynamic_dim": 8}
    result, predictor = fit(
        tmp_path,
        CONV | wide,
        ToyDataset(60),
        steps=150,
        batch_size=4,
        crop=(72, 104),
        scale_range=(1.0, 1.0),
        backbone_lr_factor=1.0,
        learning_rate=2e-3,
        weight_decay=1e-4,
        checkpoint_every=50,
    )
    assert result.curve["loss"].iloc[-1] < 0.5 * result.curve["loss"].iloc[0]

    def ap50(predictor: Predictor) -> float:
        unseen = [ToyDataset(80)[index] for index in range(70, 80)]
        matches = [match_frame(ids, predictor.predict([image])[0], labels=CITYSCAPES) for image, ids in unseen]
        return average_precision(matches, CLASSES).ap50

    # .29 to .40, by the number of threads; .001 before training
    _, untrained = fit(tmp_path / "untrained", CONV | wide, steps=1, learning_rate=1e-6)
    assert ap50(predictor) > 0.15 > 5 * ap50(untrained)


@pytest.mark.slow
def test_few_shots_move_the_named_predictors_and_nothing_else(tmp_path) -> None:
    base, _ = fit(tmp_path / "base", CONV | {"cosine_scale": 20.0}, classes=CLASSES[:2])
    tuned, _ = fit(
        tmp_path / "tuned", {"train_only": ["class", "kernel"]}, model=str(base.folder), steps=3, learning_rate=1e-2
    )
    before, after = (load_file(run.folder / "model.safetensors") for run in (base, tuned))
    moved = set()
    for name, value in before.items():
        same = after[name].shape == value.shape and torch.equal(after[name], value)
        if not same:
            moved.add(name.split(".")[3])
    assert moved == {"class_logits", "controller"}


@pytest.mark.slow
def test_rows_of_known_classes_are_kept(tmp_path) -> None:
    base, _ = fit(tmp_path / "base", classes=("car", "person"))
    more, _ = fit(tmp_path / "more", {}, model=str(base.folder), steps=1, learning_rate=1e-12)
    before, after = (load_file(run.folder / "model.safetensors") for run in (base, more))
    for name in (n for n in before if n.endswith("class_logits.weight")):
        torch.testing.assert_close(after[name][[1, 0]], before[name])
