"""MaskDiff: regions and their inverse, shots, guidance, and a training of the real classes at a tiny size."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.segmenters.contract import PREDICTION_COLUMNS, get_segmenter
from instsynth_dagster.segmenters.maskdiff.config import MaskDiffConfig
from instsynth_dagster.segmenters.maskdiff.denoiser import NO_CLASS, MaskDenoiser
from instsynth_dagster.segmenters.maskdiff.draws import Instances, RegionDraws, draw_shots, shot_of
from instsynth_dagster.segmenters.maskdiff.segmenter import given_box_iou
from instsynth_dagster.segmenters.shared.regions import cut_regions, enlarged, paste_mask
from tests.segmenters.test_contract import TINY
from tests.segmenters.toy import ToyDataset, tiny

CLASSES = ("person", "car", "motorcycle")
ARCHITECTURE = {"region": 16, "blocks": (8, 16), "layers": 1, "shots": 2, "steps": 2}


def config(**changes) -> MaskDiffConfig:
    return MaskDiffConfig(classes=CLASSES, **(ARCHITECTURE | changes))


def recipe(**changes):
    return tiny(
        **({"kind": "maskdiff", "steps": 4, "batch_size": 4, "architecture": ARCHITECTURE, "grad_clip": 1.0} | changes)
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.3), st.floats(-6, 6), st.floats(-6, 6))
def test_paste_undoes_cut(seed: int, pad: float, dx: float, dy: float) -> None:
    """For objects of at least 24 pixels, wherever the box lies, also across the border of the image."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:70, :90]
    (y, x), (a, b) = rng.uniform((10, 10), (60, 80)), rng.uniform(14, 26, 2)
    mask = ((ys - y) / a) ** 2 + ((xs - x) / b) ** 2 < 1
    x1, y1, x2, y2 = mask_box(mask)
    if min(x2 - x1, y2 - y1) < 24:
        return
    box = enlarged(torch.tensor([[x1 - abs(dx), y1 - abs(dy), x2, y2]]), pad)
    region = 2 * cut_regions(torch.from_numpy(mask)[None].float(), box, 48)[0, 0] - 1
    back = paste_mask(region, box[0], mask.shape)
    assert (back & mask).sum() / (back | mask).sum() >= 0.95


@pytest.mark.parametrize("mode", ["mean", "concat"])
@pytest.mark.parametrize("shots", [1, 5, 10])
def test_any_number_of_shots(mode: str, shots: int) -> None:
    model = MaskDenoiser(config(shots=shots, shots_mode=mode)).eval()
    masks = model.sample(torch.randn(3, 3, 16, 16), torch.randn(3, shots, 4, 16, 16), torch.tensor([0, 1, 2]))
    assert masks.shape == (3, 16, 16)
    assert masks.abs().max() <= 1


def guided_inputs() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return (
        torch.randn(2, 1, 16, 16),
        torch.randn(2, 3, 16, 16),
        torch.randn(2, 2, 4, 16, 16),
        torch.tensor([0, 2]),
        torch.tensor(500),
    )


@torch.inference_mode()
def test_guidance_of_zero_is_the_conditional_answer() -> None:
    torch.manual_seed(1)
    model = MaskDenoiser(config()).eval()
    state, regions, shots, labels, step = guided_inputs()
    plain = model.predict(state, regions, shots, labels + 1, step.expand(2))
    assert torch.equal(model.guided(*guided_inputs()), plain)
    model.sizes = config(guidance=2.0)
    free = model.predict(state, regions, shots, torch.full_like(labels, NO_CLASS), step.expand(2))
    torch.testing.assert_close(model.guided(*guided_inputs()), 3 * plain - 2 * free)


@torch.inference_mode()
def test_the_order_of_shots_means_nothing_to_their_mean() -> None:
    model = MaskDenoiser(config(shots=3)).eval()
    regions, shots, labels = torch.randn(2, 3, 16, 16), torch.randn(2, 3, 4, 16, 16), torch.tensor([0, 1])
    torch.testing.assert_close(model.sample(regions, shots, labels), model.sample(regions, shots.flip(1), labels))


@torch.inference_mode()
@torch.inference_mode()
def test_patches_cover_their_own_cells() -> None:
    """A patch in, the same patch out: a UNet that returns its first channels returns the noisy mask."""

    class Echo(torch.nn.Module):
        def forward(self, planes, steps, labels):
            return SimpleNamespace(sample=planes[:, :4])

    model = MaskDenoiser(config(patch=2)).eval()
    state, regions, shots, labels, step = guided_inputs()
    assert model.predict(state, regions, shots, labels, step.expand(2)).shape == state.shape
    assert model.unet.config.sample_size == 8
    model.unet = Echo()
    torch.testing.assert_close(model.predict(state, regions, shots, labels, step.expand(2)), state)


@torch.inference_mode()
def test_an_even_number_of_draws_mirrors_with_its_region() -> None:
    torch.manual_seed(0)
    regions, shots, labels = torch.randn(2, 3, 16, 16), torch.randn(2, 2, 4, 16, 16), torch.tensor([0, 1])
    for samples, mirrors in ((1, False), (2, True), (4, True)):
        torch.manual_seed(0)
        model = MaskDenoiser(config(samples=samples)).eval()
        mask, mirrored = model.sample(regions, shots, labels), model.sample(regions.flip(-1), shots, labels).flip(-1)
        assert torch.allclose(mask, mirrored, atol=1e-5) is mirrors


@torch.inference_mode()
def test_a_mask_does_not_depend_on_its_batch() -> None:
    model = MaskDenoiser(config()).eval()
    regions, shots, labels = torch.randn(3, 3, 16, 16), torch.randn(3, 2, 4, 16, 16), torch.tensor([0, 1, 2])
    alone = model.sample(regions[1:2], shots[1:2], labels[1:2])
    torch.testing.assert_close(model.sample(regions, shots, labels)[1:2], alone, atol=1e-5, rtol=1e-4)


def test_the_papers_unet_has_the_papers_blocks() -> None:
    unet = MaskDenoiser(MaskDiffConfig(classes=CLASSES, shots=1)).unet
    assert [len(block.resnets) for block in unet.down_blocks] == [2, 2, 2]
    assert [len(block.resnets) for block in unet.up_blocks] == [3, 3, 3]
    assert sum(p.numel() for p in unet.parameters()) == pytest.approx(41.6e6, rel=0.01)


def test_shots_come_from_other_images() -> None:
    read = []

    class Watched(ToyDataset):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    found = Instances(Watched(), CLASSES, 4).others(1, 2, np.random.default_rng(0), 3)
    assert len({index for index, _ in found}) == 3
    assert 2 not in read
    assert {value for _, value in found} == {26001}


def test_a_shot_is_of_the_instance_that_was_picked() -> None:
    instances = Instances(ToyDataset(), CLASSES, 4)
    image, ids = ToyDataset()[3]
    assert torch.equal(instances.shot(3, 24000, config()), shot_of(image, ids == 24000, config()))


def test_small_instances_are_never_picked() -> None:
    class Cut(ToyDataset):
        def __getitem__(self, index):
            image, ids = super().__getitem__(index)
            top = np.flatnonzero((ids == 24000).any(axis=1))[0]
            ids[top + 3 :][ids[top + 3 :] == 24000] = 7
            return image, ids

    instances, rng = Instances(Cut(), CLASSES, 4), np.random.default_rng(0)
    picked = [instances.pick(index, rng) for index in range(6) for _ in range(10)]
    assert {pick[1] for pick in picked if pick} == {26001, 32000}
    assert instances.pick(0, rng, 0) is None


def test_draws_are_a_function_of_their_number() -> None:
    one, two = (RegionDraws(ToyDataset(), recipe(), config(), 7, 20) for _ in range(2))
    for draw in (3, 0, 11):
        assert all(torch.equal(a, b) for a, b in zip(one[draw].values(), two[draw].values(), strict=True))
    item = one[5]
    assert (item["masks"].shape, item["shots"].shape) == ((1, 16, 16), (1, 4, 16, 16))
    assert item["masks"].min() >= -1
    assert item["masks"].max() > 0.5  # the object is in the middle of its region


def test_drawing_leaves_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    one, two = (RegionDraws(ToyDataset(), recipe(), config(), seed, 20)[5] for seed in (7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one["regions"], two["regions"])


def test_a_shot_shows_the_instance_and_nothing_else() -> None:
    image, ids = ToyDataset()[0]
    mask = ids == 26001
    shot = shot_of(image, mask, config())
    other = image.copy()
    other[~mask] = 255
    torch.testing.assert_close(shot, shot_of(other, mask, config()))


@pytest.mark.slow
def test_training_is_resumed_and_kept(tmp_path) -> None:
    segmenter = get_segmenter("maskdiff")
    detector = {"kind": "fastinst", **TINY["fastinst"], "crop": (64, 96), "steps": 1, "batch_size": 2}
    settings_ = recipe(architecture=ARCHITECTURE | {"detector": detector, "min_score": 0.0})

    def fit(name: str, progress=None):
        folder = tmp_path / name
        return segmenter.fit(
            ToyDataset(), settings_, classes=CLASSES, seed=0, out=folder / "c", scratch=folder / "s", progress=progress
        )

    whole = fit("whole")

    def kill(done: int, *_: float) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("killed", kill)
    pd.testing.assert_frame_equal(fit("killed").curve, whole.curve)
    ours, theirs = (load_file(tmp_path / name / "c" / "model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    predictor = segmenter.load(whole.folder, settings_, labels=CITYSCAPES)
    image, ids = ToyDataset(9)[8]
    table = predictor.predict([image])[0]
    assert list(table.columns) == list(PREDICTION_COLUMNS)
    assert (table["score"].diff().dropna() <= 0).all()
    pd.testing.assert_frame_equal(table, segmenter.load(whole.folder, settings_, labels=CITYSCAPES).predict([image])[0])
    assert given_box_iou(predictor, image, ids, 4, CLASSES, labels=CITYSCAPES)["iou"].between(0, 1).all()


@pytest.mark.slow
def test_other_classes_keep_what_was_learnt(tmp_path) -> None:
    segmenter = get_segmenter("maskdiff")
    base = segmenter.fit(
        ToyDataset(), recipe(), classes=CLASSES[:2], seed=0, out=tmp_path / "base", scratch=tmp_path / "s"
    )
    with pytest.raises(SettingsError, match="detector"):
        segmenter.load(base.folder, recipe(), labels=CITYSCAPES).predict([ToyDataset()[0][0]])
    more = segmenter.fit(
        ToyDataset(),
        recipe(model=str(base.folder), steps=1, learning_rate=1e-12, architecture={"shots": 1}),
        classes=CLASSES,
        seed=1,
        out=tmp_path / "more",
        scratch=tmp_path / "s2",
    )
    before, after = (load_file(folder / "model.safetensors") for folder in (base.folder, more.folder))
    name = "unet.class_embedding.weight"
    assert before[name].shape[0] == 3
    torch.testing.assert_close(after[name][:3], before[name])
    assert torch.equal(after["unet.conv_in.weight"].round(decimals=5), before["unet.conv_in.weight"].round(decimals=5))
    assert draw_shots(ToyDataset(), config(shots=1), 1).shape == (3, 1, 4, 16, 16)


def test_what_cannot_be_is_refused_in_one_line(tmp_path) -> None:
    segmenter = get_segmenter("maskdiff")
    with pytest.raises(SettingsError, match="cannot be halved"):
        segmenter.fit(
            ToyDataset(),
            recipe(architecture={"region": 18, "blocks": (8, 16, 16)}),
            classes=CLASSES,
            seed=0,
            out=tmp_path / "c",
            scratch=tmp_path / "s",
        )
    with pytest.raises(CheckpointError, match="MaskDiff"):
        segmenter.load(tmp_path, recipe(), labels=CITYSCAPES)
    with pytest.raises(SettingsError, match="min_side"):
        segmenter.fit(
            ToyDataset(),
            recipe(architecture=ARCHITECTURE | {"min_side": 500}),
            classes=CLASSES,
            seed=0,
            out=tmp_path / "c",
            scratch=tmp_path / "s",
        )
