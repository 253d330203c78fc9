"""What DVC is given to show."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from jobs.metrics import write_curves, write_metrics

ROW = {"segmenter": "m", "percent": 100, "ap": 0.2804, "ap50": 0.514, "coco_ap": 0.2, "coco_ap50": 0.4}
NONE = {"pq": np.nan, "miou": np.nan}
QUALITY = pd.DataFrame([{"generator": "g", "fid": 0.01748, "clip_margin": 0.1305, "ssim": 0.9}])


@pytest.mark.parametrize(
    ("lead", "scores"), [("ap", {"AP": 28.04, "AP50": 51.4}), ("coco_ap", {"COCO AP": 20.0, "COCO AP50": 40.0})]
)
def test_a_file_for_each_arm_and_generator_and_none_of_earlier_arms(tmp_path, lead, scores):
    (tmp_path / "gone.json").write_text("{}")
    ap = pd.DataFrame([ROW | NONE | {"arm": "real"}, ROW | NONE | {"arm": "g", "ap": np.nan}])
    write_metrics(tmp_path, ap, QUALITY, lead)
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert sorted(found) == ["g-images.json", "g.json", "real.json"]
    assert found["real.json"] == scores
    assert ("AP" in found["g.json"]) is False
    assert found["g-images.json"] == {"FID": 0.0175, "margin": 0.131}


def test_segmenters_and_shares_of_the_labels_are_told_apart(tmp_path):
    rows = [ROW | NONE | {"arm": "real", "segmenter": name, "percent": share} for name in "ab" for share in (5, 100)]
    write_metrics(tmp_path, pd.DataFrame(rows), pd.DataFrame(), "ap")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("a-100-real.json", "a-5-real.json", "b-100-real.json", "b-5-real.json")
    ]


@pytest.mark.slow
def test_curves_are_a_picture_for_each_segmenter_with_its_arms_named(tmp_path):
    about = [("a", "real", 0), ("a", "real", 1), ("a", "g", 0), ("b", "real", 0)]
    curves = pd.concat(
        pd.DataFrame({"segmenter": s, "arm": arm, "percent": 100, "seed": seed, "step": [1, 2], "loss": [3.0, 2.0]})
        for s, arm, seed in about
    )
    write_curves(tmp_path, curves)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.svg"]
    picture = ElementTree.fromstring((tmp_path / "a.svg").read_text())
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text in ("real", "g")] == ["real", "g"]
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == 3
