"""The commands: a user's mistake ends them with one line and a status that is not 0."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from instsynth_dagster import definitions
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.formats.cityscapes import write_frame
from instsynth_dagster.errors import UserError
from jobs import planning
from tests.fuzz.oracle import CASES, check_line, nothing_stored

MISTAKES = [
    "",
    "seed: x",
    "a: [",
    "dataset: {root: d, train_cities: []}",
    "dataset: {root: d, train_cities: [a], val_cities: [a]}\nprompts: {}",
    "dataset: {root: none, train_cities: [a]}\nclasses: [unicorn]\nprompts: {}",
    "dataset: {root: none, train_cities: [../a]}\nclasses: [car]\nprompts: {car: {templates: [a car]}}",
    "classes: [car]\nclasses: [bus]",
    "seed: !!python/object/apply:os.system [exit]",
    "dataset: {root: 's3://key:secret@bucket', train_cities: [a]}",
    "a: &a [*a]",
    "seed: 1e400",
    "\0",
]
MINIMAL = "classes: [car]\nprompts: {car: {templates: [a car]}}\nartifacts: {root: artifacts}\n"


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSTSYNTH_PARAMS", "params.yaml")
    return tmp_path


def told(capsys) -> str:
    """What a command printed: one line."""
    out, err = capsys.readouterr()
    assert not out
    (line,) = err.splitlines()
    return line


def plan_ends(project: Path, name: str) -> str:
    CASES["commands"] += 1
    with nothing_stored(project), pytest.raises(SystemExit) as ended:
        planning.main()
    line = str(ended.value.code)  # text: Python prints it and ends with status 1
    check_line(line, name)
    assert line.startswith("error: ")
    assert "secret" not in line
    return line


def definitions_end(project: Path, capsys, monkeypatch, name: str) -> None:
    CASES["commands"] += 1
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    with nothing_stored(project), pytest.raises(UserError) as ended:
        runpy.run_path(definitions.__file__)
    sys.excepthook(type(ended.value), ended.value, ended.tb)  # as the interpreter does before it ends with status 1
    check_line(told(capsys), name)


@pytest.mark.parametrize("text", MISTAKES)
def test_a_params_file_with_a_mistake(project, capsys, monkeypatch, text):
    (project / "params.yaml").write_text(text)
    plan_ends(project, "params.yaml: ")
    definitions_end(project, capsys, monkeypatch, "params.yaml: ")


@pytest.mark.parametrize("name", ["none.yaml", ".", "params.yaml/x", "x" * 300, "/dev/null", "/dev/zero"])
def test_a_params_file_that_is_none(project, capsys, monkeypatch, name):
    (project / "params.yaml").write_text("")
    monkeypatch.setenv("INSTSYNTH_PARAMS", name)
    plan_ends(project, name)
    definitions_end(project, capsys, monkeypatch, name)


def test_an_hour_that_is_none(project, capsys, monkeypatch):
    text = f"{MINIMAL}dataset: {{root: d, train_cities: [a]}}\nnightly: {{cron: a b c d e}}\n"
    (project / "params.yaml").write_text(text)
    definitions_end(project, capsys, monkeypatch, "nightly.cron")


def test_a_plan_on_a_damaged_manifest_makes_it_again(project, capsys):
    (project / "params.yaml").write_text(f"{MINIMAL}dataset: {{root: data, train_cities: [aachen]}}\n")
    ids = np.full((8, 16), 7, np.int32)
    write_frame(project / "data", "train", "aachen_000000_000019", np.zeros((8, 16, 3), np.uint8), ids)
    manifest = project / "artifacts/frames/aachen/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{")
    CASES["commands"] += 1
    with nothing_stored(project):
        planning.main()
    assert "frames" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["link", "folder", "name"])
def test_a_plan_on_a_damaged_city(project, way):
    """What was made of a city whose files cannot be read any more."""
    (project / "params.yaml").write_text(f"{MINIMAL}dataset: {{root: data, train_cities: [aachen]}}\n")
    with Store(project / "artifacts").write("frames", "aachen", "f" * 64) as out:
        out.add({"frame_id": "aachen_0_0"})
    city, name = project / "data/leftImg8bit/train/aachen", "aachen_0_0_leftImg8bit.png"
    city.mkdir(parents=True)
    if way == "folder":
        (city / name).mkdir()
    else:
        (city / (name if way == "link" else f"x\n\x1b[31m{name}")).symlink_to("/nowhere")
    plan_ends(project, "leftImg8bit")
