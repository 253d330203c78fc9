"""Benchmarks at a tiny size: they run, and print what they promise. What they measure here means nothing.

`first_run.py --small`, the whole of a profile, is a step of `.ci/run`.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from instsynth_dagster.demo.city import write_demo_city
from instsynth_dagster.demo.pretraining.corpus import CorpusRecipe, build_corpora
from instsynth_dagster.settings import DemoCitySettings

ROOT = Path(__file__).parents[2]
CITIES = {"alderford": "train", "brackwater": "train", "cinderhill": "train", "dunmere": "val"}
COMMANDS = {
    "dim_frames.py --corpus {data}/crops --per-class 1 --light 0.5 --steps 1": "normalise_exposure",
    "evaluation.py --frames 2 --predictions 4 --official 1": "official",
    "extractors.py --steps 1 --views 1 --seeds 0 --data {data}": "trained",
    "generators.py --params profiles/paper_demo.yaml --crops 1 --steps 2 --device cpu": "batched / official",
    "generators.py --real-size --small --device cpu --crops 1 --steps 2 --dtype float32": "blendeddiff, 4 LCM steps",
    "load.py --crops 40 --picture {data}/load.png": "crops",
    "maskdiff.py --steps 1 --batch 2 --data {data}": "IoU",
    "orchestration.py --frames 1 --cities 2": "Dagster's share of a partition, a run each",
    "phases.py --frames 1": "x windows per second",
    "refinement.py --scenes 1 --seeds 1 --crops 1": "boundary",
    "structure.py --corpus {data}/crops --per-class 1 --steps 1 --strengths 1": "controlnet_inpaint 1",
    "smaller_generators.py --steps 1 --distill 1 --turns 1 --denoising 1 --scenes 1 --data {data} "
    "--build {data}": "GMACs",
}
"""And what they print."""
NOT_TINY = {"first_run.py", "on_a_gpu.py", "second_opinion.py", "sharpness.py"}
"""A step of `.ci/run`, and that and more; one with a test of its own; one that draws a corpus of several sizes."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo city with one frame a city, and in `crops` a held-out crop of each class."""
    root = tmp_path_factory.mktemp("city")
    one_each = CorpusRecipe(per_class=1, sides=(96,), seed=1)
    build_corpora(root / "crops", one_each, progress=lambda done, total: None, workers=1)
    for city, split in CITIES.items():
        write_demo_city(root, split, city, DemoCitySettings(width=256, height=128, frames_per_city=1))
    return root


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_it_runs(command: str, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    name, *arguments = command.format(data=data).split()
    script = ROOT / "benchmarks" / name
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    monkeypatch.syspath_prepend(script.parent)
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    assert COMMANDS[command] in capfd.readouterr().out


def test_every_benchmark_is_run() -> None:
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {command.split()[0] for command in COMMANDS} | NOT_TINY
