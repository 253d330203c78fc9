"""Repainting without a graph, with a tiny real pipeline and judge."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster import repaint_instances
from instsynth_dagster.errors import DatasetError, SettingsError
from instsynth_dagster.settings import GeneratorSettings, IntegrationSettings
from instsynth_dagster.synthesis.generators import load_generator
from tests.tiny_captioner import save_tiny_captioner
from tests.tiny_pipelines import save_tiny_clip, save_tiny_inpainting

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generator(tmp_path_factory) -> dict:
    model = save_tiny_inpainting(tmp_path_factory.mktemp("tiny"))
    return {"kind": "diffinpainting", "model": str(model), "size": 32, "steps": 2, "guidance": 2.0, "batch_size": 2}


def scene(seed: int, height: int, width: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), bool)
    for layer in masks:
        y, x = rng.integers(0, height - 8), rng.integers(0, width - 8)
        layer[y : y + 8, x : x + 6] = True
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), masks


@pytest.mark.slow
def test_instances_change_inside_their_masks_and_nothing_else_does(generator):
    (first, one), (second, two) = scene(0, 40, 50, 2), scene(1, 30, 64, 3)
    two[1] = False
    kept = first.copy(), second.copy()
    made = repaint_instances([first, second], [one, two], [["car", "bus"], ["car", "car", "person"]], generator)
    for image, source, masks in zip(made.images, kept, (one, two), strict=True):
        inside = masks.any(axis=0)
        np.testing.assert_array_equal(image[~inside], source[~inside])
        assert (image[inside] != source[inside]).any()
    np.testing.assert_array_equal(first, kept[0])
    np.testing.assert_array_equal(made.masks[1], two)
    table = made.provenance
    assert table[["image", "instance", "class_name"]].values.tolist() == [
        [0, 0, "car"],
        [0, 1, "bus"],
        [1, 0, "car"],
        [1, 2, "person"],
    ]
    assert table["prompt"].tolist() == [f"a photo of a {name}" for name in table["class_name"]]
    assert table["seed"].nunique() == 4
    digest = load_generator("g", GeneratorSettings.model_validate(generator), "cpu").weights_digest
    assert set(table["weights_digest"]) == {digest}
    assert set(table["failure"]) == {""}


@pytest.mark.slow
def test_a_result_does_not_depend_on_what_shares_the_call(generator):
    (first, one), (second, two) = scene(0, 40, 50, 2), scene(1, 30, 64, 1)
    together = repaint_instances([first, second], [one, two], [["car", "bus"], ["car"]], generator)
    alone = repaint_instances([second], [two], [["car"]], GeneratorSettings.model_validate(generator))
    np.testing.assert_array_equal(together.images[1], alone.images[0])
    assert together.provenance["seed"].iloc[-1] == alone.provenance["seed"].iloc[0]
    twice = repaint_instances([second, second], [two, two], [["car"], ["car"]], generator)
    np.testing.assert_array_equal(twice.images[0], twice.images[1])
    other = repaint_instances([second], [two], [["car"]], generator, seed=1)
    assert (other.images[0] != alone.images[0]).any()


@pytest.mark.slow
def test_prompts_pasting_and_a_judge_are_those_of_params_files(generator, tmp_path):
    image, masks = scene(3, 40, 50, 2)
    prompts = {"car": {"templates": ["a {color} car"], "colors": ["red", "blue"]}}
    judge = str(save_tiny_clip(tmp_path))
    made = repaint_instances([image], [masks], [["car", "bus"]], generator, prompts=prompts, judge=judge)
    assert made.provenance["prompt"].iloc[0] in ("a red car", "a blue car")
    assert made.provenance[["class_margin", "sharpness", "seam"]].notna().all(axis=None)
    hard = repaint_instances(
        [image], [masks], [["car", "bus"]], generator, prompts=prompts, integration=IntegrationSettings(feather=0)
    )
    assert (hard.images[0] != made.images[0]).any()


@pytest.mark.slow
def test_prompts_hold_the_light_of_the_image_and_a_caption_of_the_instance(generator, tmp_path):
    image, masks = scene(3, 40, 50, 2)
    prompts = {
        "car": {"templates": ["a car {lighting}"]},
        "bus": {"templates": ["a bus, {description}"]},
    }
    given = [image // 5], [masks], [["car", "bus"]], generator
    captions = {"model": str(save_tiny_captioner(tmp_path)), "max_tokens": 3}
    table = repaint_instances(*given, prompts=prompts, captions=captions).provenance
    assert table["prompt"].tolist() == ["a car at night", f"a bus, {table['description'][1]}"]
    assert len(table["description"][1].split()) >= 2
    with pytest.raises(SettingsError, match="give captions"):
        repaint_instances(*given, prompts=prompts)


def test_what_does_not_fit_is_named_by_its_number(generator):
    image, masks = scene(0, 40, 50, 2)

    def repaint(images, layers, names):
        return repaint_instances(images, layers, names, generator)

    for arguments, message in (
        (([image], [masks], []), "1 images, 1 masks, 0 lists of classes"),
        (([image, image / 255], [masks, masks], [["car"] * 2] * 2), "image 1: float64 .* give uint8"),
        (([image], [masks[:, 1:]], [["car"] * 2]), r"image 0: masks are bool \(2, 39, 50\); give bool \(N, 40, 50\)"),
        (([image], [masks.astype(np.uint8)], [["car"] * 2]), "image 0: masks are uint8"),
        (([image], [masks], [["car"]]), "image 0: 2 masks"),
        (([image], [masks[:1]], ["car"]), "image 0: 1 masks, classes are 'car'"),
    ):
        with pytest.raises(DatasetError, match=message):
            repaint(*arguments)


def test_nothing_to_repaint_is_nothing_done(generator):
    image, masks = scene(0, 40, 50, 1)
    made = repaint_instances([image], [masks & False], [["car"]], generator | {"model": "nowhere"})
    np.testing.assert_array_equal(made.images[0], image)
    assert made.provenance.empty


@pytest.mark.slow
def test_the_package_stays_light():
    light = "import sys, instsynth_dagster; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pydantic')))"
    subprocess.run([sys.executable, "-c", light], check=True)


@pytest.mark.slow
def test_the_documented_example_runs_as_written(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(example, "docs/api.md", "exec"), names)
    assert "class_margin" in capsys.readouterr().out
    outside = ~names["masks"].any(axis=0)
    np.testing.assert_array_equal(names["made"].images[0][outside], names["image"][outside])
