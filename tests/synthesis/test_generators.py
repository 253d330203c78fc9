"""The generator contract, with a tiny real pipeline."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.settings import GeneratorSettings, PromptSettings
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.generators.base import repaint
from instsynth_dagster.synthesis.generators.blendeddiff import shrinking_masks
from instsynth_dagster.synthesis.prompts import choose_prompt, prompt_bank
from tests.tiny_pipelines import save_tiny_gligen, save_tiny_guided, save_tiny_inpainting, save_tiny_xl

SIZE = 32


KINDS = {
    "diffinpainting": (save_tiny_inpainting, {}),
    "blendeddiff": (partial(save_tiny_inpainting, in_channels=4), {"strength": 0.76, "mask_dilations": 1}),
    "blendeddiff-xl": (save_tiny_xl, {"strength": 0.76}),
    "controlnet_inpaint": (save_tiny_guided, {"control_strength": 0.8}),
    "controlnet_inpaint-text": (partial(save_tiny_guided, in_channels=4), {"control_end": 0.5}),
    "controlnet_inpaint-xl": (partial(save_tiny_guided, in_channels=9, xl=True), {}),
    "gligen": (save_tiny_gligen, {}),
    "gligen-inpainting": (partial(save_tiny_gligen, in_channels=9), {"grounded_steps": 0.5}),
}


@pytest.fixture(scope="module", params=KINDS)
def recipe(request, tmp_path_factory) -> GeneratorSettings:
    save, changes = KINDS[request.param]
    kind, folder = request.param.split("-")[0], tmp_path_factory.mktemp("tiny")
    beside = {"controlnet": str(folder / "controlnet")} if kind == "controlnet_inpaint" else {}
    return settings(save(folder), kind=kind, **beside, **changes)


def settings(model: Path, **changes) -> GeneratorSettings:
    values = {"kind": "diffinpainting", "model": str(model), "size": SIZE, "steps": 4, "guidance": 2.0, "batch_size": 4}
    return GeneratorSettings.model_validate(values | changes)


@pytest.fixture(scope="module")
def generator(recipe):
    return load_generator("mine", recipe, "cpu")


def selected(count: int) -> pd.DataFrame:
    rows = []
    for index in range(count):
        rng = np.random.default_rng(index)
        side = int(rng.integers(20, 60))
        mask = np.zeros((side, side), bool)
        mask[side // 4 : side // 2, 4:-4] = True
        crop = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        row = {"instance_id": f"a_000000_00000{index}:26000", "frame_id": f"a_000000_00000{index}", "class_name": "car"}
        rows.append(row | {"crop_png": encode_png(crop), "mask_counts": encode_rle(mask)["counts"]})
    return pd.DataFrame(rows)


BANK = prompt_bank("car", PromptSettings(templates=("a photo of a {color} car",), colors=("red", "blue", "white")))


def crops(generator, rows: pd.DataFrame, recipe: GeneratorSettings, skip: int = 0) -> dict[tuple[str, int], dict]:
    return {
        (row["instance_id"], row["replica"]): row
        for row in repaint(generator, "g", rows, BANK, recipe, 0, recipe.replicas, skip)
    }


@pytest.mark.slow
def test_rows_carry_a_repainted_crop_and_its_provenance(generator, recipe):
    made = crops(generator, selected(3), recipe.model_copy(update={"replicas": 2}))
    assert len(made) == 6
    row = made["a_000000_000001:26000", 1]
    image = decode_png(row["image_png"])
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert row["prompt"] in set(BANK["prompt"])
    assert (row["generator"], row["steps"], row["guidance"]) == ("g", 4, 2.0)
    assert row["weights_digest"] == generator.weights_digest
    assert len({crop["seed"] for crop in made.values()}) == 6


@pytest.mark.slow
def test_a_crop_does_not_depend_on_its_neighbours_bit_for_bit(generator, recipe):
    rows = selected(6)
    whole = crops(generator, rows, recipe)
    shuffled = crops(generator, rows.iloc[[5, 1, 3, 0, 4, 2]], recipe)
    alone = crops(generator, rows.iloc[[2]], recipe)
    resumed = crops(generator, rows, recipe, skip=3)
    for other in (shuffled, alone, resumed):
        for key, row in other.items():
            assert row["image_png"] == whole[key]["image_png"]
    assert len(resumed) == 3


@pytest.mark.slow
def test_seed_and_prompt_change_the_crop(generator):
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8), 4, axis=0)
    masks = np.ones((4, SIZE, SIZE), bool)
    out = generator.fill(images, masks, ["a red car"] * 3 + ["a blue bus"], ["car"] * 4, [1, 2, 1, 1])
    np.testing.assert_array_equal(out[0], out[2])
    assert (out[0] != out[1]).any()
    assert (out[0] != out[3]).any()


@pytest.mark.slow
def test_a_second_load_has_the_same_digest(generator, recipe):
    assert load_generator("again", recipe, "cpu").weights_digest == generator.weights_digest


@pytest.mark.slow
@pytest.mark.filterwarnings("error:Passing `image` as torch tensor")
def test_a_bright_crop_is_read_like_a_dark_one(generator):
    """diffusers guesses the value range of a batch from its darkest pixel; a batch of bright crops must not differ."""
    rng = np.random.default_rng(0)
    bright = rng.integers(160, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    dark = rng.integers(0, 90, (1, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((2, SIZE, SIZE), bool)
    masks[:, 8:24, 4:28] = True

    def fill(images):
        count = len(images)
        return generator.fill(images, masks[:count], ["a red car"] * count, ["car"] * count, [1, 2][:count])

    together, alone = fill(np.concatenate([bright, dark])), fill(bright)
    assert np.abs(together[0].astype(int) - alone[0]).max() <= 1


def thin_masks() -> np.ndarray:
    """A column and a row of one pixel at every offset to the latent's cells: bool (2 * 8, S, S)."""
    masks = np.zeros((16, SIZE, SIZE), bool)
    for offset in range(8):
        masks[offset, 4:28, 8 + offset] = masks[8 + offset, 8 + offset, 4:28] = True
    return masks


@pytest.mark.slow
def test_the_thinnest_mask_is_painted_wherever_it_lies(generator):
    """Where a latent mask is lost nothing is drawn, and pictures of two seeds are equal."""
    masks = thin_masks()
    images = np.random.default_rng(0).integers(0, 256, (len(masks), SIZE, SIZE, 3), dtype=np.uint8)
    first, second = (
        np.concatenate(
            [
                generator.fill(images[part], masks[part], ["a red car"] * 4, ["car"] * 4, [seed] * 4)
                for part in (slice(start, start + 4) for start in range(0, len(masks), 4))
            ]
        )
        for seed in (1, 2)
    )
    for mask, one, other in zip(masks, first, second, strict=True):
        assert (one[mask] != other[mask]).any(axis=1).mean() > 0.9


@pytest.mark.slow
@given_settings(max_examples=25)  # of each kind; they share the functions
@given(st.integers(0, 2**31), st.integers(0, 40))
def test_a_latent_cell_is_on_when_any_of_its_pixels_is(generator, seed, count):
    """`Tensor.unfold` is the oracle; and of the pixels of whole cells pipelines may pick any."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, SIZE, SIZE), bool)
    masks[rng.integers(0, 2, count), rng.integers(0, SIZE, count), rng.integers(0, SIZE, count)] = True
    factor = generator._pipeline.vae_scale_factor
    tiles = torch.from_numpy(masks).unfold(1, factor, factor).unfold(2, factor, factor)
    cells = generator._cells(masks)[:, 0]
    assert torch.equal(cells > 0, tiles.flatten(3).any(3))
    whole = generator._whole_cells(masks)[:, 0]
    for offset in range(factor):
        assert torch.equal(whole[:, offset::factor, offset::factor], cells)


@pytest.mark.slow
def test_nothing_reads_the_global_generator(generator):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((2, SIZE, SIZE), bool)
    masks[:, 8:24, 4:28] = True
    before = torch.get_rng_state()
    first = generator.fill(images, masks, ["a red car"] * 2, ["car"] * 2, [1, 2])
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(7)
    np.testing.assert_array_equal(first, generator.fill(images, masks, ["a red car"] * 2, ["car"] * 2, [1, 2]))


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path):
    missing = settings(tmp_path / "none", mirrors=(str(tmp_path / "other"),), weights={"unet/x": "0" * 64})
    with pytest.raises(CheckpointError) as caught:
        load_generator("mine", missing, "cpu")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in ("generators.mine.model", "none", "other"))
    plain = save_tiny_inpainting(tmp_path / "plain", in_channels=4)
    with pytest.raises(CheckpointError, match=r"takes 4 channels, needed are 9 \(inpainting\)"):
        load_generator("mine", settings(plain), "cpu")
    with pytest.raises(CheckpointError, match="no grounding"):
        load_generator("mine", settings(plain, kind="gligen"), "cpu")


@pytest.mark.slow
def test_a_crop_is_painted_at_the_smallest_square_that_loses_nothing_of_it(generator, recipe):
    rows, bucketed = selected(6), recipe.model_copy(update={"sizes": (48, 16, 24)})
    made = list(repaint(generator, "g", rows, BANK, bucketed, 0))
    sides = {row["instance_id"]: decode_png(row["image_png"]).shape[0] for row in made}
    for row in rows.to_dict("records"):
        crop = decode_png(row["crop_png"]).shape[0]
        assert sides[row["instance_id"]] == next((side for side in (16, 24, SIZE, 48) if side >= crop), 48)
    resumed = list(repaint(generator, "g", rows, BANK, bucketed, 0, skip=4))
    assert [row["image_png"] for row in resumed] == [row["image_png"] for row in made[4:]]


@pytest.mark.slow
def test_compiled_blocks_paint_the_same(generator, recipe, monkeypatch):
    """The real compilation of the repeated blocks, traced but not lowered: a C++ compiler is not everywhere."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled = load_generator("mine", recipe.model_copy(update={"compile": True}), "cpu")
    rows = selected(2)
    ours, theirs = crops(compiled, rows, recipe), crops(generator, rows, recipe)
    for key in ours:
        difference = decode_png(ours[key]["image_png"]).astype(int) - decode_png(theirs[key]["image_png"])
        assert np.abs(difference).max() <= 1


def test_a_knob_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="grounded_steps belongs to kind gligen"):
        settings(Path("model"), grounded_steps=0.5)


@pytest.mark.slow
def test_grounding_tells_where_and_can_be_off(tmp_path):
    model = save_tiny_gligen(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    masks = np.zeros((1, SIZE, SIZE), bool)
    masks[:, 8:24, 4:28] = True
    by_share = {}
    for share in (0.0, 1.0):
        generator = load_generator("mine", settings(model, kind="gligen", grounded_steps=share), "cpu")
        by_share[share] = {
            subject: generator.fill(images, masks, ["a red one"], [subject], [1]) for subject in ("car", "bus")
        }
    np.testing.assert_array_equal(by_share[0.0]["car"], by_share[0.0]["bus"])
    assert (by_share[1.0]["car"] != by_share[1.0]["bus"]).any()


def test_only_thin_masks_shrink_from_wide_to_true():
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, :, :, 7:9] = 1
    masks[1, :, 2:14, 2:14] = 1
    wide, narrow, true = shrinking_masks(masks, 2)
    assert torch.equal(true, masks)
    assert [int(m[0].sum()) for m in (wide, narrow, true)] == [16 * 6, 16 * 4, 16 * 2]
    assert torch.equal(wide[1], masks[1])
    assert torch.equal(narrow[1], masks[1])


def test_the_bank_is_templates_by_colours_each_once():
    bank = prompt_bank(
        "person", PromptSettings(templates=("a man in {color}", "a woman", "a woman"), colors=("red", "blue"))
    )
    assert bank["prompt"].tolist() == ["a man in red", "a man in blue", "a woman"]


def test_prompts_are_chosen_by_content_and_evenly():
    chosen = pd.Series([choose_prompt(BANK, f"id{i}", 0, 0) for i in range(600)])
    assert chosen.value_counts().between(150, 250).all()
    assert choose_prompt(BANK, "id7", 0, 0) == chosen[7]
    assert len({choose_prompt(BANK, "id7", replica, 0) for replica in range(9)}) > 1


class Cramped:
    """A generator on a device that holds so many crops at once."""

    def __init__(self, generator, room: int) -> None:
        self._generator, self._room = generator, room
        self.tried: list[int] = []

    def __getattr__(self, name):
        return getattr(self._generator, name)

    def fill(self, images, *rest):
        self.tried.append(len(images))
        if len(images) > self._room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self._generator.fill(images, *rest)


@pytest.mark.slow
def test_batches_halve_where_the_device_is_full(generator, recipe, caplog):
    rows = selected(6)
    cramped = Cramped(generator, room=1)
    made = crops(cramped, rows, recipe)
    assert cramped.tried == [4, 2, *[1] * 6]
    assert "out of memory on the device, going on with batches of 1" in caplog.text
    alone = crops(generator, rows, recipe.model_copy(update={"batch_size": 1}))
    assert {key: row["image_png"] for key, row in made.items()} == {key: row["image_png"] for key, row in alone.items()}
    with pytest.raises(SettingsError, match=r"generators\.g: the device has no memory for one crop; lower size"):
        crops(Cramped(generator, room=0), rows, recipe)
