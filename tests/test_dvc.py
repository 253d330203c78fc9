"""dvc.yaml against the graph of the demo: what no stage keeps would be stale after `dvc pull`."""

from __future__ import annotations

import yaml

from assets import build_graph
from instsynth_dagster.settings import load_settings
from tests.settings.test_settings import ROOT


def test_every_artifact_of_the_demo_is_an_out_of_a_stage():
    settings = load_settings(ROOT / "params.yaml")
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    outs = set()
    for stage in stages.values():
        for out in stage.get("do", stage)["outs"]:
            path = next(iter(out))
            outs |= {path.replace("${key}", name) for name in settings.generators}
    kept = {f"artifacts/{key}" for key in build_graph(settings)}
    assert {path for path in kept if not any(path == out or path.startswith(f"{out}/") for out in outs)} == set()
