"""The comparison of two gates at a tiny size: both let as many crops pass. What it measures here means nothing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import second_opinion
from instsynth_dagster.settings import load_settings
from tests.assets.test_coco_data import made
from tests.segmenters.toy import tiny
from tests.tiny_pipelines import save_tiny_clip, save_tiny_inpainting

CITY = {"width": 256, "height": 128, "frames_per_city": 2}


@pytest.mark.slow
def test_both_gates_accept_as_many(tmp_path: Path, monkeypatch, capsys) -> None:
    model, clip = save_tiny_inpainting(tmp_path / "model"), save_tiny_clip(tmp_path / "clip")
    raw = {
        "device": "cpu",
        "dataset": {"train_cities": ["ashford", "birchley"], "val_cities": ["valdale"], "demo_city": CITY},
        "classes": ["car"],
        "selection": {"min_area": 40},
        "integration": {"window_size": [128, 64]},
        "generators": {"g": {"kind": "diffinpainting", "model": str(model), "size": 32, "steps": 1}},
        "judge": {"clip": str(clip), "fid_features": "clip", "masks": {"segmenter": "tiny", "min_score": 0.0}},
        "arms": ["real", "g"],
        "segmenters": {"tiny": tiny(steps=1).model_dump(mode="json", exclude_unset=True)},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setattr(second_opinion, "run", lambda job, params, home: made(load_settings(params)))
    command = ["second_opinion.py", "--params", str(tmp_path / "params.yaml"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    second_opinion.main()
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "out/second_opinion.json").read_text())
    assert set(found["ap"]) == {"no gate", "real", "class_margin", "mask_iou"}
    accepted = [int(number) for number in re.findall(r"accepts (\d+)", printed)]
    assert len(accepted) == 2
    assert accepted[0] <= accepted[1] <= found["crops"]  # of equal IoUs all pass
    assert accepted[0] > 0
