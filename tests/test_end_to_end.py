"""The whole graph on a drawn city with a tiny real pipeline and a tiny real segmenter: all phases, and a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from assets import build_assets, build_graph
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.settings import Settings
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.segmenters.toy import tiny
from tests.tiny_pipelines import save_tiny_clip, save_tiny_inpainting

CLASSES = ("car", "person", "bicycle")
CROPS = "diffinpainting/inpainted_crops"


def raw_settings(root: Path, model: Path, **changes: Any) -> dict[str, Any]:
    """A params file's content; artifacts below `root`."""
    return {
        "device": "cpu",
        "artifacts": {"root": str(root / "artifacts"), "exports": str(root / "exports")},
        "dataset": {
            "root": str(root / "data"),
            "train_cities": ["oakham"],
            "val_cities": ["pinford"],
            "demo_city": {"width": 256, "height": 128, "frames_per_city": 4},
        },
        "classes": list(CLASSES),
        "selection": {"min_area": 60, "k": 3, "quota": 6},
        "prompts": {name: {"templates": [f"a photo of a {{color}} {name}"], "colors": ["red"]} for name in CLASSES},
        "generators": {
            "diffinpainting": {
                "kind": "diffinpainting",
                "model": str(model),
                "size": 32,
                "steps": 4,
                "guidance": 3.0,
                "batch_size": 2,
            }
        },
        "integration": {"window_size": [256, 128]},
    } | changes


def run(raw: dict[str, Any], rows_per_part: int = 64) -> Store:
    """Refresh everything that the settings name."""
    settings = Settings.model_validate(raw)
    graph = build_graph(settings)
    resources = build_resources(settings)
    resources["store"].rows_per_part = rows_per_part
    with dg.DagsterInstance.ephemeral() as instance:
        workers = InThisProcess(build_assets(graph), resources, instance)
        refresh(graph, resources["store"], workers, lambda _: None)
    return resources["store"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_inpainting(tmp_path_factory.mktemp("tiny"))


@pytest.mark.slow
def test_from_scenes_to_tables_and_report(tmp_path, model):
    segmenter = tiny(crop=(64, 128)).model_dump(mode="json")
    raw = raw_settings(
        tmp_path, model, arms=["real", "zoom_crop", "diffinpainting"], segmenters={"mask2former": segmenter}
    )
    store = run(raw)

    crops = store.read_many(CROPS, [f"oakham|{name}" for name in CLASSES])
    windows = store.read_many("diffinpainting/is_cityscapes", [f"oakham|{name}" for name in CLASSES])
    control = store.read_many("zoom_crop/is_cityscapes", [f"oakham|{name}" for name in CLASSES])
    assert len(crops) == len(windows) == len(control) > 4
    assert set(crops["prompt"]) <= {f"a photo of a red {name}" for name in CLASSES}
    assert (windows["ids_sha256"] == control["ids_sha256"]).all()
    assert (windows["image_sha256"] != control["image_sha256"]).any()

    tables = store.folder("evaluation_tables", "all", "tables")
    precision = pd.read_parquet(tables / "average_precision.parquet")
    assert set(precision["arm"]) == {"real", "zoom_crop", "diffinpainting"}
    assert precision[["ap", "ap50"]].stack().between(0, 1).all()
    assert precision.set_index("arm")["samples"].to_dict() == {
        "real": 4,
        "zoom_crop": 4 + len(windows),
        "diffinpainting": 4 + len(windows),
    }
    counts = pd.read_parquet(tables / "table_1.parquet")
    assert len(counts) >= len(CLASSES)
    report = (store.folder("report", "all", "report") / "report.html").read_text()
    assert "a photo of a red car" in report

    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "artifacts").rglob("manifest.json")}
    run(raw)
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "artifacts").rglob("manifest.json")}


@pytest.mark.slow
def test_an_edited_threshold_calls_no_generator_and_rejected_crops_leave_the_frame_alone(tmp_path, model):
    judge = {"clip": str(save_tiny_clip(tmp_path / "clip")), "fid_features": "clip"}
    arms = ["real", "zoom_crop", "diffinpainting"]
    store = run(raw_settings(tmp_path, model, arms=arms, judge=judge, gates={"spares": 1}))
    keys = [f"oakham|{name}" for name in CLASSES]
    crops = {key: store.require(CROPS, key) for key in keys}
    scores = store.read_many("diffinpainting/crop_quality", keys)
    windows = store.read_many("diffinpainting/is_cityscapes", keys)
    assert len(scores) == 2 * len(windows)
    assert windows["repainted"].all()

    bound = float(scores["change"].median())
    store = run(raw_settings(tmp_path, model, arms=arms, judge=judge, gates={"spares": 1, "min_change": bound}))
    assert crops == {key: store.require(CROPS, key) for key in keys}
    windows = store.read_many("diffinpainting/is_cityscapes", keys)
    control = store.read_many("zoom_crop/is_cityscapes", keys)
    rejected = ~windows["repainted"]
    assert windows["rejection"].str.startswith("change").any()
    assert rejected.any()
    assert (windows["ids_sha256"] == control["ids_sha256"]).all()
    assert (windows["image_sha256"] == control["image_sha256"])[rejected].all()
    assert (windows["image_sha256"] != control["image_sha256"])[~rejected].all()
    quality = store.read("image_quality")
    assert quality["crops"].tolist() == [len(windows)]


@pytest.mark.slow
def test_killed_while_generating_it_goes_on_and_ends_with_the_same_digests(tmp_path, model):
    undisturbed = raw_settings(tmp_path / "undisturbed", model, arms=["real", "diffinpainting"])
    killed = raw_settings(tmp_path / "killed", model, arms=["real", "diffinpainting"])
    run(undisturbed, rows_per_part=2)

    command = "import json, sys; from tests.test_end_to_end import run; run(json.loads(sys.argv[1]), rows_per_part=2)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", command, json.dumps(killed)], env=environment)
    crops = tmp_path / "killed/artifacts" / CROPS
    while not (parts := list(crops.rglob("*-00000.*.parquet"))):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (parts[-1].parent / "manifest.json").exists()
    before = parts[-1].stat().st_mtime_ns

    run(killed, rows_per_part=2)
    assert parts[-1].stat().st_mtime_ns == before
    digests = [
        {
            path.relative_to(tmp_path / side): json.loads(path.read_text())["digest"]
            for path in (tmp_path / side / "artifacts").rglob("manifest.json")
        }
        for side in ("undisturbed", "killed")
    ]
    assert digests[0] == digests[1]
    assert any(CROPS in str(path) for path in digests[0])
