"""Folders that must not overlap, and names that a generator may not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets import build_graph
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import load_settings
from instsynth_dagster.settings.folders import check_disjoint
from instsynth_dagster.settings.params import ARMS_WITHOUT_GENERATOR, RESERVED

PARAMS = """
dataset: {root: data, train_cities: [aachen]}
classes: [car]
prompts: {car: {templates: [a photo of a car]}}
"""


def load(folder: Path, text: str):
    path = folder / "params.yaml"
    path.write_text(PARAMS + text)
    return load_settings(path)


@pytest.mark.parametrize(
    ("artifacts", "keys"),
    [
        ("exports: data", ("artifacts.exports", "dataset.root")),
        ("exports: data/synthetic", ("artifacts.exports", "dataset.root")),
        ("exports: .", ("artifacts.exports", "artifacts.root")),
        ("exports: linked", ("artifacts.exports", "dataset.root")),
        ("exports: linked/deeper", ("artifacts.exports", "dataset.root")),
        ("exports: somewhere/../artifacts/exports", ("artifacts.exports", "artifacts.root")),
        ("root: data", ("artifacts.root", "dataset.root")),
        ("results: data/results", ("artifacts.results", "dataset.root")),
        ("results: exports", ("artifacts.results", "artifacts.exports")),
        ("{root: 's3://bucket/x', cache: data/cache}", ("artifacts.cache", "dataset.root")),
    ],
)
def test_folders_that_overlap_are_refused_in_one_line(tmp_path: Path, monkeypatch, artifacts: str, keys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "data")
    text = artifacts if artifacts.startswith("{") else f"{{{artifacts}}}"
    with pytest.raises(SettingsError, match=r"overlap; give each of them a folder of its own") as caught:
        load(tmp_path, f"artifacts: {text}\n")
    assert all(key in str(caught.value) for key in keys)
    assert "\n" not in str(caught.value)


def test_neighbours_do_not_overlap(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load(tmp_path, "artifacts: {root: artifacts/a, exports: artifacts/b, results: artifacts/c}\n")
    load(tmp_path, "artifacts: {root: 's3://bucket/data', exports: exports}\n")
    check_disjoint({"one": Path("data"), "two": Path("data-2"), "three": Path("dat")})


@pytest.mark.parametrize("name", ["real", "frames", "report", "copy_paste", "other_refused_refined"])
def test_a_generator_may_not_be_called_like_an_arm_or_an_asset(tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=rf"generators names '{name}', the name of another arm or asset"):
        load(tmp_path, f"generators: {{{name}: {{kind: diffinpainting, model: nowhere/here}}}}\n")


def test_all_assets_of_the_shipped_profiles_are_reserved():
    profiles = [Path("params.yaml"), *Path("profiles").glob("*.yaml")]
    keys = {key for profile in profiles for key in build_graph(load_settings(profile)) if "/" not in key}
    assert keys | set(ARMS_WITHOUT_GENERATOR) == RESERVED
