"""A mistyped city of the demo is a line, not a new city."""

from __future__ import annotations

import pytest
import yaml

from instsynth_dagster.doctor import problems, survey
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.settings import load_settings


@pytest.fixture
def params(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(train: list[str], val: list[str], demo: bool = True):
        dataset = {"root": "data", "train_cities": train, "val_cities": val} | ({"demo_city": {}} if demo else {})
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"dataset": dataset, "classes": ["car"]}))
        return tmp_path / "params.yaml"

    return write


@pytest.fixture
def drawn(tmp_path):
    for split, city in (("train", "alderford"), ("train", "brackwater"), ("val", "dunmere")):
        (tmp_path / "data/leftImg8bit" / split / city).mkdir(parents=True)


@pytest.mark.parametrize("typo", ["dunmer", "dunmeer", "dummere", "dunmere2"])
def test_a_name_like_that_of_a_forgotten_city_is_a_line(params, drawn, typo):
    with pytest.raises(SettingsError) as caught:
        load_settings(params(["alderford", "brackwater"], [typo]))
    line = str(caught.value)
    assert f"params.yaml: dataset.val_cities: {typo} is not drawn yet, and dunmere, which is drawn, is named" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (["alderford", "brackwater"], ["dunmere"]),
        (["alderford", "brackwater"], ["dunmere", "dunmere2"]),  # the like is still named: one city more
        (["alderford"], ["elmbridge"]),  # another city
        (["dunmere"], ["alderford"]),  # drawn, in another role
    ],
)
def test_other_names_are_drawn(params, drawn, train, val):
    settings = load_settings(params(train, val))
    assert settings.dataset.val_cities == tuple(val)


def test_nothing_is_drawn_of_own_data_and_before_the_first_run(params, tmp_path):
    load_settings(params(["alderford"], ["dunmer"]))
    (tmp_path / "data/leftImg8bit/val/dunmere").mkdir(parents=True)
    load_settings(params(["alderford"], ["dunmer"], demo=False))


def test_a_plan_says_which_cities_the_demo_draws(params, drawn):
    found, _ = survey(load_settings(params(["alderford", "brackwater"], ["dunmere", "elmbridge"])))
    assert "dataset.root: data: elmbridge is not there yet; the demo draws it" in [one.text for one in found]
    assert not [one for one in problems(found) if "elmbridge" in one.text]
