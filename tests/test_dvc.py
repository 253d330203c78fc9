"""dvc.yaml against the graph of the demo: a stage that says less than its artifacts declare is not run when it should
be, and what no stage keeps would be stale after `dvc pull`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from assets import build_graph
from assets.shared.declaration import Artifact, At
from instsynth_dagster.settings import load_settings
from instsynth_dagster.settings.named import checkpoints
from instsynth_dagster.settings.view import view
from tests.settings.test_settings import ROOT

SETTINGS = load_settings(ROOT / "params.yaml")
GRAPH = build_graph(SETTINGS)
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())


def stages() -> Iterator[tuple[str, dict]]:
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        for key in SETTINGS.generators if "foreach" in stage else [""]:
            text = yaml.safe_dump(stage.get("do", stage)).replace("${key}", key)
            yield f"{name}@{key}".rstrip("@"), yaml.safe_load(text)


STAGES = dict(stages())


def outs(stage: dict) -> list[str]:
    return [next(iter(out)) for out in stage["outs"]]


def below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def made_by(stage: dict) -> list[Artifact]:
    return [asset for key, asset in GRAPH.items() if below(f"artifacts/{key}", outs(stage))]


def declared_settings(asset: Artifact) -> set[str]:
    names = tuple(sorted(asset.dimensions))
    return {
        path
        for partition in asset.partitions
        for path in asset.declaration.settings(At(SETTINGS, partition, names, asset.member))
    }


def test_every_artifact_of_the_demo_is_an_out_of_a_stage():
    made = [asset.key for stage in STAGES.values() for asset in made_by(stage)]
    assert sorted(made) == sorted(GRAPH)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_what_its_artifacts_read(name):
    stage = STAGES[name]
    own = [asset.key for asset in made_by(stage)]
    read = {key for asset in made_by(stage) for part in asset.partitions for key, _ in asset.upstream(part)}
    assert {key for key in read if key not in own and not below(f"artifacts/{key}", stage["deps"])} == set()
    models = [model for asset in made_by(stage) for model in checkpoints(view(SETTINGS, declared_settings(asset)))]
    assert not models or "checkpoints" in stage["deps"]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_names_the_settings_that_its_artifacts_read(name):
    stage = STAGES[name]
    sections = {path.split(".")[0].split(":")[0] for asset in made_by(stage) for path in declared_settings(asset)}
    named = {param.split(".")[0] for param in stage["params"]}
    assert sections & set(PARAMS) - named == set()
    assert named <= set(PARAMS)
