import itertools
import re
import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import resize_image
from instsynth_dagster.data.masks import resize_mask
from instsynth_dagster.demo.city.palette import PAINTS
from instsynth_dagster.demo.pretraining import (
    autoencoder,
    clip,
    generative,
    inpainting,
    sharpening,
    timed,
)
from instsynth_dagster.demo.pretraining.cards import link_equal, unlist
from instsynth_dagster.demo.pretraining.clip import Claim, claim_code, draw_caption, true_pairs
from instsynth_dagster.demo.pretraining.corpus import CorpusRecipe, build_corpora, scene_crops
from instsynth_dagster.demo.pretraining.grounded import grounded_unet
from instsynth_dagster.demo.pretraining.judgement import at_native_size, fullest_crops
from instsynth_dagster.demo.pretraining.latents import load_fitting, touched_cells
from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.demo.pretraining.timed import TimedRecipe
from instsynth_dagster.demo.pretraining.vocabulary import train_tokenizer
from instsynth_dagster.models.digests import SUMS, write_sums
from tests.demo.pretraining.toy_scenes import silent_bar

RECIPE = CorpusRecipe(per_class=3, sides=(48, 64), min_area=60)


PLAIN = inpainting.ARCHITECTURE | {
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
}
"""Attention at the coarsest cells only, as in checkpoints that are older than the recipe."""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A folder with the corpora, to be copied."""
    folder = tmp_path_factory.mktemp("corpus")
    build_corpora(folder, RECIPE, progress=lambda done, total: None, workers=2)
    return folder


@pytest.fixture(scope="module")
def corpora(rendered):
    return build_corpora(rendered, RECIPE, progress=lambda done, total: None)


@pytest.fixture(scope="module")
def corpus(corpora):
    return corpora[48]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(tmp_path_factory.mktemp("tokenizer"), tokens=32)


@pytest.mark.slow
def test_a_corpus_is_balanced_and_its_crops_show_what_the_caption_says(corpus):
    assert corpus.table["class_name"].value_counts().to_dict() == dict.fromkeys(CITYSCAPES.classes, 3)
    assert corpus.images.shape == (24, 48, 48, 3)
    assert corpus.masks.any(axis=(1, 2)).all()
    for row, mask, image in zip(corpus.table.itertuples(), corpus.masks, corpus.images, strict=True):
        assert row.color in row.caption.split()
        again = [
            (resize_image(crop, (48, 48)), resize_mask(shape, 48)) for crop, shape, _ in scene_crops(row.scene, RECIPE)
        ]
        assert any(np.array_equal(crop, image) and np.array_equal(shape, mask) for crop, shape in again)


@pytest.mark.slow
def test_only_crops_that_lose_by_the_smaller_size_are_kept_at_the_larger(corpora):
    small, large = corpora[48], corpora[64]
    assert large.images.shape[1:] == (64, 64, 3)
    assert large.table["number"].tolist() == np.flatnonzero(small.table["side"] > 48).tolist()
    native = at_native_size(corpora)
    assert [part.images.shape[1] for part in native] == [48, 64]
    assert sorted(number for part in native for number in part.table["number"]) == list(range(24))
    assert (native[0].table["side"] <= 48).all()
    assert len(at_native_size(corpora, {0})) == 1


def test_a_contact_sheet_shows_the_fullest_crops_of_each_class(corpora):
    small = corpora[48]
    shown = fullest_crops(small, per_class=1)
    assert sorted(small.table["class_name"].iloc[shown]) == sorted(CITYSCAPES.classes)
    for number in shown:
        of_class = small.table["class_name"] == small.table["class_name"].iloc[number]
        assert small.masks[number].mean() == small.masks[of_class.to_numpy()].mean(axis=(1, 2)).max()


@given(st.sampled_from(CITYSCAPES.classes), st.sampled_from(["", *PAINTS]), st.integers(0, 2**32))
def test_a_drawn_caption_says_nothing_false(class_name, color, seed):
    variants = {"person": ["man", "woman"], "rider": ["male", "female"]}.get(class_name, [""])
    generator = np.random.default_rng(seed)
    truth = Claim(class_name, color, str(generator.choice(variants)))
    text, said = draw_caption(truth, generator)
    assert said.color in ("", truth.color)
    assert said.variant in ("", truth.variant)
    assert all(word not in text.split() for word in PAINTS if word != said.color)
    assert not said.color or said.color in text.split()
    others = [Claim(class_name, other, truth.variant) for other in PAINTS]
    pairs = true_pairs(torch.tensor([claim_code(said)]), torch.tensor([claim_code(truth), *map(claim_code, others)]))[0]
    assert pairs[0]
    assert pairs[1:].tolist() == [said.color in ("", other.color) for other in others]


@given(st.text(max_size=40))
def test_every_text_can_be_written_in_the_vocabulary(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.unk_token_id not in ids[1:-1]


def test_words_of_prompts_are_whole_tokens(tokenizer):
    text = "a photo of a woman in a yellow coat"
    assert tokenizer.tokenize(text) == [word + "</w>" for word in text.split()]


@pytest.mark.slow
def test_latents_are_what_the_pipeline_would_encode(corpus):
    torch.manual_seed(0)
    model = diffusers.AutoencoderTiny(**autoencoder.ARCHITECTURE).eval()
    model.register_to_config(scaling_factor=0.5)
    latents = autoencoder.encode(model, np.asarray(corpus.images[:3]), np.asarray(corpus.masks[:3]), batch_size=2)
    pixels = torch.from_numpy(corpus.images[2].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    pixels[:, :, torch.from_numpy(corpus.masks[2].copy())] = 0
    with torch.no_grad():
        expected = model.encode(pixels).latents[0] * 0.5
    torch.testing.assert_close(latents[2], expected)


@pytest.mark.slow
def test_makes_all_checkpoints_with_measured_cards(tmp_path, rendered, monkeypatch):
    shutil.copytree(rendered, tmp_path / "build/corpus/training")  # the other one is rendered here
    few = {"batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 1}
    monkeypatch.setattr(generative, "TRAINING", RECIPE)
    monkeypatch.setattr(generative, "HELD_OUT", CorpusRecipe(per_class=2, sides=(48, 64), min_area=60, seed=1))
    monkeypatch.setattr(generative, "JUDGED", 1)
    for kind, sampling in generative.SAMPLING.items():
        monkeypatch.setitem(generative.SAMPLING, kind, sampling | {"steps": 2})
    monkeypatch.setattr(clip, "RECIPE", Recipe(steps=2, **few))
    monkeypatch.setattr(clip, "VISION_RECIPE", Recipe(steps=2, **few))
    monkeypatch.setattr(clip, "VISION", clip.VISION | {"image_size": 48, "num_hidden_layers": 1})
    monkeypatch.setattr(autoencoder, "RECIPE", Recipe(steps=2, **few))
    narrow = {"encoder_block_out_channels": (8,) * 3, "decoder_block_out_channels": (8,) * 3}
    monkeypatch.setattr(autoencoder, "ARCHITECTURE", autoencoder.ARCHITECTURE | narrow)
    thin = {"block_out_channels": (8, 16, 16), "norm_num_groups": 4}
    monkeypatch.setattr(inpainting, "ARCHITECTURE", inpainting.ARCHITECTURE | thin)
    short = TimedRecipe(minutes=0.002, learning_rate=1e-3)
    monkeypatch.setattr(sharpening, "RECIPE", short)
    for generator in generative.GENERATORS:
        monkeypatch.setattr(type(generator), "recipe", short)
        monkeypatch.setattr(type(generator), "batch", 4)

    ticks = itertools.count()
    monkeypatch.setattr(timed, "time", SimpleNamespace(monotonic=lambda: next(ticks) / 100))

    def run(**given):
        generative.pretrain_generative(tmp_path / "build", tmp_path / "checkpoints", silent_bar, **given)

    with monkeypatch.context() as patch:
        patch.setattr(generative, "train_generator", _killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    weights = (tmp_path / "checkpoints/mini-clip/model.safetensors").stat()
    run()
    assert weights == (tmp_path / "checkpoints/mini-clip/model.safetensors").stat()
    measures = {
        "mini-clip": r"class \d+\.\d% of eight",
        "mini-sd-inpaint": r"\d+\.\d dB PSNR",
        "mini-gligen": r"`blendeddiff`: 8 held-out instances",
        "mini-controlnet": r"8 held-out instances repainted",
    }
    for name, measured in measures.items():
        card = (tmp_path / "checkpoints" / name / "README.md").read_text()
        assert re.search(measured, card)
        assert str(tmp_path) not in card
    gligen = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "checkpoints/mini-gligen/unet")
    assert gligen.config.attention_type == "gated"
    gates = [value for name, value in gligen.named_parameters() if name.endswith("alpha_attn")]
    assert all(gate != 0 for gate in gates)

    controlnet = diffusers.ControlNetModel.from_pretrained(tmp_path / "checkpoints/mini-controlnet")
    assert any(value.any() for name, value in controlnet.named_parameters() if name.startswith("controlnet_down"))

    pipeline = diffusers.StableDiffusionInpaintPipeline.from_pretrained(
        tmp_path / "checkpoints/mini-sd-inpaint", safety_checker=None, local_files_only=True
    )
    judge = transformers.CLIPTextModel.from_pretrained(tmp_path / "checkpoints/mini-clip").state_dict()
    shared = pipeline.text_encoder.state_dict()
    assert all(torch.equal(value, shared[key]) for key, value in judge.items())
    first = transformers.CLIPModel.from_pretrained(tmp_path / "build/mini-clip/both/final").vision_model.state_dict()
    second = transformers.CLIPModel.from_pretrained(tmp_path / "checkpoints/mini-clip").vision_model.state_dict()
    assert any(not torch.equal(value, first[key]) for key, value in second.items())
    assert (
        transformers.CLIPTokenizer.from_pretrained(tmp_path / "checkpoints/mini-clip").model_max_length == clip.TOKENS
    )

    run()  # nothing is missing
    before = (tmp_path / "checkpoints/mini-sd-inpaint/vae/config.json").read_bytes(), gligen.state_dict()
    write_sums(tmp_path / "checkpoints")
    run(minutes=0.01)  # what it writes again is not what was listed
    listed = (tmp_path / "checkpoints" / SUMS).read_text().splitlines()
    assert {line[66:].split("/")[0] for line in listed} == {"mini-clip"}
    assert (tmp_path / "checkpoints/mini-sd-inpaint/vae/config.json").read_bytes() == before[0]
    after = diffusers.UNet2DConditionModel.from_pretrained(tmp_path / "checkpoints/mini-gligen/unet").state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in before[1].items())


def test_a_thin_hole_is_never_lost_between_cells():
    holes = np.zeros((1, 8, 8), bool)
    holes[0, 1, :] = True
    assert touched_cells(holes, 4).tolist() == [[[True, True], [False, False]]]


@pytest.mark.slow
def test_a_network_begins_as_the_one_it_grew_from():
    torch.manual_seed(0)
    old, new = (
        diffusers.UNet2DConditionModel(sample_size=12, **kind).eval() for kind in (PLAIN, inpainting.ARCHITECTURE)
    )
    load_fitting(new, old.state_dict())
    inputs = torch.randn(1, 9, 12, 12), torch.tensor([500]), torch.randn(1, 4, 128)
    with torch.no_grad():
        torch.testing.assert_close(new(*inputs).sample, old(*inputs).sample)


@pytest.mark.parametrize("kind", [PLAIN, inpainting.ARCHITECTURE], ids=["older", "new"])
def test_grounding_grows_from_an_inpainting_network_whatever_its_attention(kind):
    unet = diffusers.UNet2DConditionModel(sample_size=12, **kind)
    grounded = grounded_unet(unet)
    assert grounded.config["down_block_types"] == kind["down_block_types"]
    assert (grounded.config["in_channels"], grounded.config["attention_type"]) == (4, "gated")
    assert torch.equal(grounded.conv_in.weight, unet.conv_in.weight[:, :4])


def _killed(*_args, **_kwargs):
    raise KeyboardInterrupt


def test_equal_parts_are_kept_once(tmp_path):
    for name in ("original", "copy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_bytes(b"same")
    link_equal(tmp_path / "copy", tmp_path / "original")
    link_equal(tmp_path / "copy", tmp_path / "original")
    assert (tmp_path / "copy").is_symlink()
    assert (tmp_path / "copy/weights").read_bytes() == b"same"
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="not equal"):
        link_equal(tmp_path / "other", tmp_path / "original")


def test_a_checkpoint_whose_files_change_is_listed_no_more(tmp_path):
    unlist(tmp_path / "mini-gligen")  # nothing is listed
    names = ("mini-clip/a", "mini-gligen/b", "mini-gligen/unet/c", "mini-gligen2/d")
    lines = [f"{'a' * 64}  {name}\n" for name in names]
    (tmp_path / SUMS).write_text("".join(lines))
    unlist(tmp_path / "mini-gligen")
    assert (tmp_path / SUMS).read_text() == lines[0] + lines[3]
