"""Rejected crops beside passed ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from instsynth_dagster.data.images import encode_png
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.evaluation.report.gate_gallery import gate_sheet
from instsynth_dagster.settings import GateSettings
from instsynth_dagster.synthesis.gates import SCORES

MASK = np.zeros((16, 16), bool)
MASK[4:12, 4:12] = True
RED, GREEN = (206, 60, 48), (46, 148, 84)


def tables(margins):
    names = [f"i{number}" for number in range(len(margins))]
    picture = encode_png(np.full((16, 16, 3), 90, np.uint8))
    selected = pd.DataFrame({"instance_id": names, "crop_png": picture, "mask_counts": encode_rle(MASK)["counts"]})
    crops = pd.DataFrame({"instance_id": names, "replica": 0, "class_name": "car", "image_png": picture})
    scores = pd.DataFrame({"instance_id": names, "replica": 0} | dict.fromkeys(SCORES, 0.5))
    return selected, crops, scores.assign(class_margin=margins)


def frames(sheet, color):
    """How many tiles have a frame of a colour: one pair of long horizontal lines each."""
    line = (sheet == color).all(axis=2)
    starts = line[:, 1:] & ~line[:, :-1]
    return int(starts[np.flatnonzero(line.sum(axis=1) > 150)].sum()) // 4


def test_each_kind_has_its_colour_and_its_number():
    gates = GateSettings(min_class_margin=0.0)
    sheet = gate_sheet(*tables([0.3, -0.1, 0.2, -0.2, 0.1]), gates)
    assert (frames(sheet, RED), frames(sheet, GREEN)) == (2, 3)
    sheet = gate_sheet(*tables([0.3] * 9), gates, most=4)
    assert (frames(sheet, RED), frames(sheet, GREEN)) == (0, 4)
