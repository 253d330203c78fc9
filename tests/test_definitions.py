"""What Dagster loads, for every params file that is shipped: what `dagster definitions validate` checks."""

from __future__ import annotations

import dagster as dg
import pytest

from assets import build_graph
from instsynth_dagster.definitions import build_definitions
from instsynth_dagster.settings import load_settings
from tests.settings.test_settings import ROOT, SHIPPED


@pytest.mark.slow
@pytest.mark.parametrize("params", SHIPPED)
def test_dagster_finds_no_fault_in_the_definitions(params, monkeypatch):
    monkeypatch.chdir(ROOT)

    def read():
        return load_settings(ROOT / params)

    dg.Definitions.validate_loadable(build_definitions(read(), read))


def test_the_demo_makes_every_named_artifact():
    settings = load_settings(ROOT / "params.yaml")
    graph = build_graph(settings)
    assert {
        "selected_instances",
        "prompt_bank",
        "diffinpainting/inpainted_crops",
        "diffinpainting/is_cityscapes",
        "diffinpainting/refined_pseudo_labels",
        "trained_segmenters",
        "evaluation_tables",
    } <= set(graph)
    refined, runs = graph["diffinpainting/refined_pseudo_labels"], graph["trained_segmenters"]
    assert len(refined.partitions) == 3 * 8
    assert len(runs.partitions) == len(settings.arms)  # no training more for the labels
