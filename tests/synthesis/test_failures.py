"""Crops that a model cannot compute are painted again, then rejected by name, and never reach a window."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import GateSettings, GeneratorSettings, IntegrationSettings, PromptSettings
from instsynth_dagster.synthesis.gates import choose_crops
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.generators.base import repaint
from instsynth_dagster.synthesis.generators.failures import FLAT, UNCHANGED, Tally, failure_reason
from instsynth_dagster.synthesis.prompts import prompt_bank
from instsynth_dagster.synthesis.synthetic_windows import repainted_instances, synthetic_window
from tests.tiny_pipelines import save_tiny_gligen, save_tiny_inpainting

SIZE = 32
BANK = prompt_bank("car", PromptSettings(templates=("a photo of a {color} car",), colors=("red", "blue", "white")))
MAKERS = {"diffinpainting": save_tiny_inpainting, "gligen": save_tiny_gligen}


def selected(count: int) -> pd.DataFrame:
    rows = []
    for index in range(count):
        mask = np.zeros((SIZE, SIZE), bool)
        mask[8:24, 4:28] = True
        crop = np.random.default_rng(index).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        box = dict(zip(("x1", "y1", "x2", "y2"), (4, 8, 28, 24), strict=True))
        box |= dict(zip(("crop_x1", "crop_y1", "crop_x2", "crop_y2"), (0, 0, SIZE, SIZE), strict=True))
        row = {"instance_id": f"a_000000_{index:06}:26000", "frame_id": f"a_000000_{index:06}", "class_name": "car"}
        row |= {"value": 26000, "source_sha256": "0", "crop_png": encode_png(crop)}
        rows.append(row | box | {"mask_counts": encode_rle(mask)["counts"]})
    return pd.DataFrame(rows)


def loaded(folder: Path, kind: str = "diffinpainting", **changes):
    values = {"kind": kind, "size": SIZE, "steps": 2, "guidance": 2.0, "batch_size": 4}
    recipe = GeneratorSettings.model_validate(values | {"model": str(MAKERS[kind](folder))} | changes)
    return load_generator("mine", recipe, "cpu"), recipe


def painted(generator, rows, recipe, **more) -> list[dict]:
    return list(repaint(generator, "mine", rows, BANK, recipe, 0, recipe.replicas, **more))


class Overflow:
    """A value in what the decoder gives, for images of a batch by number, in some precisions."""

    def __init__(self, generator, value: float, images: slice = slice(None), only: torch.dtype | None = None) -> None:
        self._value, self._images, self._only, self.calls = value, images, only, 0
        generator._pipeline.vae.decoder.conv_out.register_forward_hook(self._spoil)

    def _spoil(self, _, __, output):
        self.calls += 1
        if self._only in (None, output.dtype):
            output = output.clone()
            output[self._images, :, 3, 3] = self._value
        return output


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(
    "value",
    [float("nan"), *(pytest.param(float(sign + "inf"), marks=pytest.mark.slow) for sign in ("", "-"))],
)
def test_one_bad_image_of_a_batch_is_rejected_and_the_others_are_what_they_were(tmp_path, kind, value):
    generator, recipe = loaded(tmp_path, kind)
    rows = selected(4)
    clean = painted(generator, rows, recipe)
    Overflow(generator, value, images=slice(1, 2))
    spoilt = painted(generator, rows, recipe)
    assert [row["failure"] for row in spoilt] == ["", FLAT, "", ""]
    for index in (0, 2, 3):
        assert spoilt[index]["image_png"] == clean[index]["image_png"]


@pytest.mark.slow
def test_what_overflows_in_half_precision_is_painted_again_in_float32(tmp_path):
    generator, recipe = loaded(tmp_path, dtype="bfloat16")
    rows = selected(3)
    before = {name: weight.clone() for name, weight in generator._pipeline.unet.state_dict().items()}
    overflow = Overflow(generator, float("nan"), only=torch.bfloat16)
    made = painted(generator, rows, recipe)
    assert [row["failure"] for row in made] == [""] * 3
    assert overflow.calls == 1 + 3  # the padded batch, then each crop once
    assert all(decode_png(row["image_png"]).std() > 2 for row in made)
    for name, weight in generator._pipeline.unet.state_dict().items():
        assert weight.dtype == before[name].dtype
        assert torch.equal(weight, before[name])
    alone = painted(generator, rows.iloc[[1]], recipe)
    assert alone[0]["image_png"] == made[1]["image_png"]


@pytest.mark.slow
def test_a_real_overflow_of_float16_is_seen_and_painted_again(tmp_path):
    """Weights that fit into float16 and activations that do not."""
    generator, recipe = loaded(tmp_path, dtype="float16")
    decoder = generator._pipeline.vae.decoder
    with torch.no_grad():
        decoder.conv_norm_out.weight.mul_(3000)
        decoder.conv_out.weight.mul_(3000)
    pixels = torch.rand(1, 4, 8, 8).half()
    assert not decoder(pixels).isfinite().all()
    made = painted(generator, selected(2), recipe)
    assert [row["failure"] for row in made] == ["", ""]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_in_which_most_crops_fail_ends_with_the_generator_the_dtype_and_a_remedy(tmp_path, dtype):
    generator, recipe = loaded(tmp_path, dtype=dtype)
    Overflow(generator, float("nan"))
    with pytest.raises(SettingsError) as caught:  # before the first row, so that a resumed run fails as well
        next(repaint(generator, "mine", selected(9), BANK, recipe, 0))
    for word in ("generators.mine", dtype, "8 of 8", "name another model"):
        assert word in str(caught.value)
    tally = Tally()
    for index in range(2):  # partitions of one crop
        assert len(painted(generator, selected(1), recipe, tally=tally)) == 1, index
    with pytest.raises(SettingsError, match="3 of 3"):
        painted(generator, selected(1), recipe, tally=tally)


@pytest.mark.parametrize("judged", [False, True])
def test_no_failed_crop_reaches_a_window(tmp_path, judged):
    generator, recipe = loaded(tmp_path)
    rows = selected(4)
    Overflow(generator, float("nan"), images=slice(1, 2))
    crops = pd.DataFrame(painted(generator, rows, recipe))
    scores = {"class_margin": 0.5, "real_similarity": 0.5, "source_similarity": 0.5, "change": 0.5, "seam": 0.0}
    quality = crops[["instance_id", "replica"]].assign(**scores) if judged else None
    chosen = choose_crops(crops, quality, GateSettings(), 1)
    frame = np.random.default_rng(7).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    ids = np.full((64, 128), 7, np.int32)
    ids[8:24, 4:28] = 26000
    settings = IntegrationSettings(window_size=(64, 32))
    windows = [
        synthetic_window(frame, ids, "a", index, row, settings, 0, CITYSCAPES)
        for index, row in enumerate(repainted_instances(rows, chosen, 1))
    ]
    assert [window["repainted"] for window in windows] == [True, False, True, True]
    assert windows[1]["rejection"] == FLAT
    plain = next(iter(repainted_instances(rows.iloc[[1]], None, 1)))
    assert windows[1]["image_png"] == synthetic_window(frame, ids, "a", 1, plain, settings, 0, CITYSCAPES)["image_png"]


@pytest.mark.parametrize("noise", [0, 1, 2])
@pytest.mark.parametrize("level", [0, 127, 253])
def test_one_colour_is_no_picture(noise, level):
    rng = np.random.default_rng(0)
    source, mask = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8), np.zeros((SIZE, SIZE), bool)
    mask[4:28, 4:28] = True
    flat = (level + rng.integers(0, noise + 1, source.shape)).astype(np.uint8)
    assert failure_reason(flat, source, mask) == FLAT
    assert failure_reason(np.where(mask[..., None], flat, source), source, mask) == FLAT
    assert failure_reason(255 - source, source, mask) == ""
    assert failure_reason(source, source, mask) == UNCHANGED


def test_the_scores_and_reasons_of_crops_can_be_stored(tmp_path):
    generator, recipe = loaded(tmp_path)
    Overflow(generator, float("nan"), images=slice(0, 1))
    rows = painted(generator, selected(4), recipe)
    assert json.loads(json.dumps([row["failure"] for row in rows])) == [FLAT, "", "", ""]
    source = decode_png(selected(1)["crop_png"][0])
    np.testing.assert_array_equal(decode_png(rows[0]["image_png"]), source)
