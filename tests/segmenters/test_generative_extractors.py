"""The generative segmenter's extractors: a generator that is cut, frozen, tuned, made smaller or distilled."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.models.smaller_unets import Distillation, feature_cosine, smaller_unet
from instsynth_dagster.models.unet_taps import UNetTaps, load_parts
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.generative.extractors import UNetExtractor
from instsynth_dagster.segmenters.shared.augmentation import FixedViews
from tests.segmenters.test_generative import CLASSES, CONV, MODEL, SMALL, UNET, fit
from tests.segmenters.toy import ToyDataset, tiny


@pytest.fixture(scope="module")
def parts():
    return load_parts(MODEL, "")


def taps(stages=(0, 1, 2), **changes) -> UNetTaps:
    return UNetTaps(load_parts(MODEL, ""), stages, 50, **changes).eval()


@pytest.mark.slow
@torch.inference_mode()
def test_a_truncated_generator_sees_the_same() -> None:
    pixels = torch.rand(2, 3, 64, 96) * 2 - 1
    for stages in ((0, 1), (0, 1, 2), (1,)):
        whole, cut = taps(stages, truncate=False), taps(stages)
        for full, short, stride, channels in zip(whole(pixels), cut(pixels), cut.strides, cut.channels, strict=True):
            assert torch.equal(full, short)
            assert short.shape == (2, channels, 64 // stride, 96 // stride)
        counts = [sum(p.numel() for p in model.parameters()) for model in (whole, cut)]
        assert counts[1] < counts[0]
    assert torch.equal(whole(pixels)[0], whole(pixels)[0])


@pytest.mark.slow
def test_fewer_blocks_mean_fewer_parameters_and_distillation_brings_features_near() -> None:
    counts = [sum(p.numel() for p in taps().parameters())]
    teacher = taps()
    for remove in ("middle", "innermost"):
        student = load_parts(MODEL, "")
        unet = smaller_unet(student.unet, remove)
        student = UNetTaps(type(student)(student.vae, unet, student.schedule, student.caption), (0, 1, 2), 50)
        counts.append(sum(p.numel() for p in student.parameters()))
    assert counts[0] > counts[1] > counts[2]
    pixels = (
        torch.stack([torch.from_numpy(ToyDataset()[i][0][:64, :96]).permute(2, 0, 1) for i in range(4)]) / 127.5 - 1
    )
    before = feature_cosine(student, teacher, pixels)
    lesson = Distillation(student, teacher)
    optimiser = torch.optim.Adam(student.unet.parameters(), 1e-3)
    for _ in range(25):
        optimiser.zero_grad()
        lesson(pixels)["loss"].backward()
        optimiser.step()
    assert feature_cosine(student, teacher, pixels) > max(0.9, before)


def test_layers_cannot_be_removed_where_there_is_one(parts) -> None:
    with pytest.raises(SettingsError, match="one layer in each stage"):
        smaller_unet(parts.unet, "layers")


@pytest.mark.slow
def test_a_frozen_generator_stays_as_it_was_and_out_of_the_checkpoint(tmp_path) -> None:
    before = {name: value.clone() for name, value in taps().state_dict().items()}
    result, predictor = fit(tmp_path, UNET, steps=5, learning_rate=1e-2)
    assert result.curve["loss"].notna().all()
    after = predictor.model.extractor.taps.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not [name for name in load_file(tmp_path / "c" / "model.safetensors") if name.startswith("extractor")]
    assert all(not p.requires_grad for p in predictor.model.extractor.parameters())


@pytest.mark.slow
def test_a_frozen_generator_sees_a_fixed_view_once(tmp_path, monkeypatch) -> None:
    seen = []

    def forward(self, pixels):
        seen.append(len(pixels))
        return original(self, pixels)

    original = UNetExtractor.forward
    monkeypatch.setattr(UNetExtractor, "forward", forward)
    result, _ = fit(tmp_path, UNET | {"views": 2}, ToyDataset(3), steps=12, batch_size=2)
    assert sum(seen) == 6
    assert result.curve["loss"].notna().all()


def test_features_of_a_view_are_those_of_its_pixels() -> None:
    model = get_segmenter("generative").build(tiny(kind="generative", architecture=UNET), CLASSES, labels=CITYSCAPES)
    pixels = torch.randn(3, 3, 64, 96)
    fresh, _, _ = model.features(pixels)
    model.features(pixels[:2], [5, 9])
    kept, _, _ = model.features(pixels[[1, 2, 0]], [9, 4, 5])
    for ours, theirs in zip(kept, fresh, strict=True):
        torch.testing.assert_close(ours, theirs[[1, 2, 0]], atol=2e-2, rtol=2e-2)


def test_fixed_views_all_come_before_any_comes_again() -> None:
    stream = [{"number": number} for number in range(7)]
    views = FixedViews(stream, 7, 3, 21)
    drawn = [views[index] for index in range(21)]
    assert all(item["number"] == item["view"] for item in drawn)
    epochs = [[item["number"] for item in drawn[start : start + 7]] for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert FixedViews(stream, 7, 3, 30)[20] == drawn[20]


@torch.inference_mode()
def test_an_inpainting_generator_is_told_that_everything_is_missing(parts) -> None:
    told = []
    eyes = taps()
    eyes.unet.register_forward_pre_hook(lambda _module, given: told.append(given[0]))
    pixels = torch.rand(2, 3, 64, 96) * 2 - 1
    eyes(pixels)
    assert (told[0][:, 4] == 1).all()
    blank = eyes.vae.encode(torch.zeros(1, 3, 64, 96)).latents * eyes.vae.config.scaling_factor
    torch.testing.assert_close(told[0][:, 5:], blank.expand(2, -1, -1, -1))


@pytest.mark.slow
@pytest.mark.parametrize(
    "extractor", [{"random_weights": True}, {"tune": True}, {"remove": "innermost", "distill_steps": 2}]
)
def test_a_changed_generator_is_kept_in_the_checkpoint(extractor, tmp_path) -> None:
    _, predictor = fit(tmp_path, {"extractor": {"kind": "unet", "model": MODEL, **extractor}, **SMALL}, steps=2)
    image = ToyDataset()[0][0]
    _, again = fit(tmp_path / "again", {"extractor": {"kind": "unet", "model": MODEL, **extractor}, **SMALL}, steps=2)
    pd.testing.assert_frame_equal(predictor.predict([image])[0], again.predict([image])[0])
    assert [name for name in load_file(tmp_path / "c" / "model.safetensors") if name.startswith("extractor")]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"extractor": {"kind": "unet"}}, "needs a model"),
        ({"extractor": {"kind": "unet", "model": MODEL, "stages": [5]}}, "up blocks 0 to 2"),
        (CONV | {"dim": 30, "heads": 4}, "shared equally"),
        (CONV | {"views": 2}, "does not learn"),
        (CONV | {"colour": 1}, "colour"),
    ],
)
def test_impossible_settings_are_refused(architecture, message, tmp_path) -> None:
    with pytest.raises(SettingsError, match=message):
        fit(tmp_path, architecture)


def test_missing_generators_and_checkpoints_are_refused(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"extractor\.model"):
        fit(tmp_path, {"extractor": {"kind": "unet", "model": str(tmp_path)}})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="generative segmenter"):
        get_segmenter("generative").load(tmp_path, tiny(kind="generative"), labels=CITYSCAPES)
