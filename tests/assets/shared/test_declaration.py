"""Declarations: what the body of an artifact is handed, and that every artifact reads no more than it declares."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from assets import build_graph, declarations
from assets.shared.declaration import GROUPS
from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import UndeclaredRead
from instsynth_dagster.settings import SegmenterSettings, Settings, load_settings
from tests.graph.test_stale_table import RAW, reads
from tests.settings.test_settings import SHIPPED

ROOT = Path(__file__).parents[3]


def test_a_body_closes_over_nothing() -> None:
    """What it reads it is handed: a module-level function has no settings to look at behind the declaration's back."""
    for declaration in declarations():
        assert declaration.make.__closure__ is None, declaration.key
        assert declaration.make.__qualname__ == declaration.make.__name__, declaration.key
        assert inspect.getdoc(declaration.make), declaration.key
        assert declaration.group in GROUPS


@pytest.mark.parametrize("name", SHIPPED)
def test_every_declared_setting_exists(name) -> None:
    for artifact in build_graph(load_settings(ROOT / name)).values():
        artifact.settings(artifact.partitions[0])


def test_pixels_come_with_the_declared_frames(tmp_path) -> None:
    graph = build_graph(load_settings(ROOT / "params.yaml"))
    given = graph["selected_instances"].arguments("alderford|car", {"dataset": CityscapesData(tmp_path, CITYSCAPES)})[
        "dataset"
    ]
    assert given.directories("alderford") == []
    with pytest.raises(UndeclaredRead, match=r"selected_instances\[alderford\|car\] reads files of city dunmere"):
        given.image_of("dunmere_000000_000001")


@pytest.mark.slow
def test_the_plan_needs_neither_dagster_nor_a_model_library() -> None:
    code = "import sys, jobs.planning; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"dagster", "torch", "torchvision", "transformers", "diffusers", "scipy", "matplotlib"}
    assert set(done.stdout.split()) & heavy == set()


def test_another_code_version_of_a_kind_makes_stale_what_this_kind_makes(monkeypatch) -> None:
    settings = Settings.model_validate(RAW)
    before = reads(build_graph(settings))
    monkeypatch.setattr(SegmenterSettings.kinds()["oneformer"], "CODE_VERSION", "2")
    after = reads(build_graph(settings))
    for asset in ("trained_segmenters", "segmentation_scores"):
        changed = {partition for partition in before[asset] if before[asset][partition] != after[asset][partition]}
        assert changed == {partition for partition in before[asset] if partition.endswith("|oneformer")}
    assert before["siseg"] != after["siseg"]  # its architecture holds a OneFormer
    assert before["gligen/inpainted_crops"] == after["gligen/inpainted_crops"]
