"""The generator contract, with a tiny real pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.images import decode_png, encode_png
from instsynth_dagster.masks import encode_rle
from instsynth_dagster.settings import GeneratorSettings, PromptSettings
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.generators.base import repaint
from instsynth_dagster.synthesis.prompts import choose_prompt, prompt_bank
from tests.tiny_inpainting import save_tiny_inpainting

SIZE = 32


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save_tiny_inpainting(tmp_path_factory.mktemp("tiny"))


def settings(model: Path, **changes) -> GeneratorSettings:
    values = {"kind": "diffinpainting", "model": str(model), "size": SIZE, "steps": 2, "guidance": 2.0, "batch_size": 4}
    return GeneratorSettings.model_validate(values | changes)


@pytest.fixture(scope="module")
def generator(model):
    return load_generator("diffinpainting", settings(model), "cpu")


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
    return {(row["instance_id"], row["replica"]): row for row in repaint(generator, "g", rows, BANK, recipe, 0, skip)}


def test_rows_carry_a_repainted_crop_and_its_provenance(generator, model):
    made = crops(generator, selected(3), settings(model, replicas=2))
    assert len(made) == 6
    row = made["a_000000_000001:26000", 1]
    image = decode_png(row["image_png"])
    assert image.shape == (SIZE, SIZE, 3)
    assert image.dtype == np.uint8
    assert row["prompt"] in set(BANK["prompt"])
    assert (row["generator"], row["steps"], row["guidance"]) == ("g", 2, 2.0)
    assert row["weights_digest"] == generator.weights_digest
    assert len({crop["seed"] for crop in made.values()}) == 6


def test_a_crop_does_not_depend_on_its_neighbours_bit_for_bit(generator, model):
    rows = selected(6)
    whole = crops(generator, rows, settings(model))
    shuffled = crops(generator, rows.iloc[[5, 1, 3, 0, 4, 2]], settings(model))
    alone = crops(generator, rows.iloc[[2]], settings(model))
    resumed = crops(generator, rows, settings(model), skip=3)
    for other in (shuffled, alone, resumed):
        for key, row in other.items():
            assert row["image_png"] == whole[key]["image_png"]
    assert len(resumed) == 3


def test_seed_and_prompt_change_the_crop(generator):
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8), 4, axis=0)
    masks = np.ones((4, SIZE, SIZE), bool)
    out = generator.fill(images, masks, ["a red car"] * 3 + ["a blue bus"], [1, 2, 1, 1])
    np.testing.assert_array_equal(out[0], out[2])
    assert (out[0] != out[1]).any()
    assert (out[0] != out[3]).any()


def test_a_second_load_has_the_same_digest(generator, model):
    assert load_generator("again", settings(model), "cpu").weights_digest == generator.weights_digest


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path, model):
    missing = settings(tmp_path / "none", mirrors=(str(tmp_path / "other"),))
    with pytest.raises(CheckpointError) as caught:
        load_generator("mine", missing, "cpu")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in ("generators.mine.model", "none", "other"))
    with pytest.raises(CheckpointError, match="takes 4 channels"):
        load_generator("mine", settings(save_tiny_inpainting(tmp_path / "plain", in_channels=4)), "cpu")


def test_the_bank_is_templates_by_colours_each_once():
    bank = prompt_bank(
        "person", PromptSettings(templates=("a man in {color}", "a woman", "a woman"), colors=("red", "blue"))
    )
    assert bank["prompt"].tolist() == ["a man in red", "a man in blue", "a woman"]
    with pytest.raises(SettingsError, match=r"prompts\.truck"):
        prompt_bank("truck", PromptSettings(templates=("a lorry",)))


def test_prompts_are_chosen_by_content_and_evenly():
    chosen = pd.Series([choose_prompt(BANK, f"id{i}", 0, 0) for i in range(600)])
    assert chosen.value_counts().between(150, 250).all()
    assert choose_prompt(BANK, "id7", 0, 0) == chosen[7]
    assert len({choose_prompt(BANK, "id7", replica, 0) for replica in range(9)}) > 1
