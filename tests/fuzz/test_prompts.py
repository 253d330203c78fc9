"""Prompt templates and colours as people, and people with bad intentions, write them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instsynth_dagster.errors import SettingsError, UserError
from instsynth_dagster.models.clip import Clip
from instsynth_dagster.settings import PromptSettings, load_settings
from instsynth_dagster.synthesis.prompts import filled_in, prompt_bank
from tests.fuzz.oracle import outcome
from tests.tiny_pipelines import save_tiny_clip

PARTS = st.sampled_from(
    [
        "a photo of a ",
        "{color}",
        "{color} ",
        "car",
        "{colour}",
        "{",
        "}",
        "{{",
        "}}",
        "{}",
        "{0}",
        "{color.__class__.__mro__}",
        "{color[0]}",
        "{color!r}",
        "{color:>99999999}",
        "{ color}",
        "%s",
        "%(color)s",
        "$color",
        "\\",
        "\0",
        "\n",
        "\x1b[31m",
        "\u202e",
        "\u00a0",
        "\ud7ff",
        "\u8eca",
        "\U0001f697",
        "e\u0301",
        "x" * 3000,
        "",
        " ",
        "<|endoftext|>",
        "'; DROP TABLE",
    ]
)
TEMPLATES = st.lists(PARTS | st.text(max_size=4), max_size=4).map("".join)
COLORS = st.sampled_from(["red", "", " ", "{color}", "{", "dark red", "\0", "rot\nblau", "\u7d05", "red" * 500])


def bank(templates: list[str], colors: list[str]) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        section = {"templates": templates, "colors": colors}
        raw = {"dataset": {"root": "d", "train_cities": ["a"]}, "classes": ["car"], "prompts": {"car": section}}
        path.write_text(json.dumps(raw))
        chosen = load_settings(path)
    return prompt_bank("car", chosen.prompts["car"])["prompt"].tolist()


@pytest.mark.slow
@settings(max_examples=220)
@given(st.lists(TEMPLATES, max_size=2), st.lists(COLORS, max_size=2))
def test_prompts_are_filled_in_or_refused(templates, colors):
    found = outcome("prompts", lambda: bank(templates, colors), "prompts.car", "params.yaml")
    if isinstance(found, UserError):
        assert isinstance(found, SettingsError)
        return
    filled = [color.join(template.split("{color}")) for template in templates for color in colors or [""]]
    assert found == list(dict.fromkeys(filled))
    assert not any("{" in prompt or "}" in prompt or not prompt.isprintable() for prompt in found)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a {colour} car", "'colour'"),
        ("a {color.__class__} car", "'color.__class__'"),
        ("a {color!r} {color} car", "'color'"),
        ("a {color car", "unmatched brace"),
        ("a {{color}} car", "a brace"),
        ("a {color} car\x07", "control character"),
        (" ", "empty or more than one line"),
    ],
)
def test_a_mistake_is_shown(template, words):
    found = outcome("prompts", lambda: bank([template], ["red"]), "prompts.car.templates")
    assert isinstance(found, SettingsError)
    assert words in str(found)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return Clip(save_tiny_clip(tmp_path_factory.mktemp("clip")))


@settings(max_examples=60)
@given(st.lists(PARTS, max_size=5).map(lambda parts: "".join([*parts, " car"])))
def test_whatever_is_accepted_can_be_encoded(clip, template):
    found = outcome("prompts", lambda: prompt_bank("car", settings_of(template)), "prompts.car")
    if not isinstance(found, UserError):
        features = clip.texts(found["prompt"].tolist())
        assert np.isfinite(features).all()


def settings_of(template: str) -> PromptSettings:
    try:
        return PromptSettings(templates=(template,), colors=("red",) if "{color}" in template else ())
    except ValueError:
        raise SettingsError("prompts.car: refused") from None


@given(st.text(max_size=30), st.text(max_size=30))
def test_words_of_an_instance_are_filled_in_once(light, told):
    """What a caption says is never read as a placeholder."""
    filled = filled_in("a car {lighting}: {description}", {"lighting": light, "description": told})
    assert filled == f"a car {light}: {told}"
    assert filled_in("a car", {}) == "a car"
