"""Checkpoints and kinds are found by their types, wherever settings name them."""

from __future__ import annotations

from pathlib import Path

import pytest

from instsynth_dagster.settings import CheckpointRef, SegmenterSettings, Settings, load_settings
from instsynth_dagster.settings.named import checkpoints, kinds
from instsynth_dagster.settings.view import view
from tests.settings.test_settings import ROOT

MASKDIFF = {
    "kind": "maskdiff",
    "model": "models/start",
    "architecture": {
        "region": 32,
        "trained_detector": "models/detector",
        "detector": {
            "kind": "generative",
            "architecture": {
                "extractor": {"kind": "unet", "model": "models/unet@sha256:0", "tiny_vae": "models/vae+convert"},
                "dim": 8,
            },
        },
    },
}


def test_checkpoints_inside_an_architecture_are_found_along_its_types():
    recipe = SegmenterSettings.model_validate(MASKDIFF)
    assert checkpoints(recipe) == {
        "model": "models/start",
        "architecture.trained_detector": "models/detector",
        "architecture.detector.architecture.extractor.model": "models/unet@sha256:0",
        "architecture.detector.architecture.extractor.tiny_vae": "models/vae+convert",
    }
    assert {kind for found in kinds(recipe) for kind in found.own_kinds()} == {"maskdiff", "generative"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("checkpoints/x", "checkpoints/x"),
        ("checkpoints/x@sha256:00", "checkpoints/x"),
        ("checkpoints/x+convert", "checkpoints/x"),
        ("owner/name@main", "owner/name@main"),
    ],
)
def test_a_reference_knows_its_path(text, path):
    assert CheckpointRef(text).path == Path(path)


def test_a_path_is_a_reference_too_and_dumps_as_text():
    recipe = SegmenterSettings.model_validate({"kind": "detectron2", "config_file": Path("a.yaml")})
    assert recipe.model_dump(mode="json", exclude_unset=True) == {"kind": "detectron2", "config_file": "a.yaml"}


def test_a_view_names_what_it_holds_and_no_more():
    settings: Settings = load_settings(ROOT / "profiles/paper_demo.yaml")
    seen = view(settings, ["judge.clip", "generators.gligen.model"])
    assert checkpoints(seen) == {
        "judge.clip": "checkpoints/mini-clip",
        "generators.gligen.model": "checkpoints/mini-gligen",
    }
    assert {kind for found in kinds(seen) for kind in found.own_kinds()} == {"gligen"}
