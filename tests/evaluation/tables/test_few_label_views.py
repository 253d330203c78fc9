"""Tables of protocols as text, and what a segmenter costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from instsynth_dagster.evaluation.metrics.model_costs import measure
from instsynth_dagster.evaluation.tables.few_label_views import cost_view, fsis_view, gfss_view, grouping_view
from instsynth_dagster.few_shot.instances import summary
from instsynth_dagster.segmenters.training.samples import _RecentSamples


def fsis_rows() -> pd.DataFrame:
    rows = [
        {
            "system": system,
            "shots": 5,
            "seed": seed,
            "with_synthesis": made,
            "base_ap": 0.3,
            "novel_ap": 0.1 + 0.02 * made,
            "novel_coco_ap": 0.08 + 0.01 * made,
            "all_coco_ap": 0.25,
        }
        for system in ("a", "b")
        for seed in range(3)
        for made in (False, True)
    ]
    return summary(pd.DataFrame(rows))


def test_few_shot_tables_show_mean_deviation_and_gain() -> None:
    view = fsis_view(fsis_rows())
    assert view["base AP"].tolist() == ["30.0 ± 0.0"] * 4
    assert view["novel AP"].tolist() == ["10.0 ± 0.0", "12.0 ± 0.0"] * 2
    assert view["novel COCO AP"].tolist() == ["8.0 ± 0.0", "9.0 ± 0.0"] * 2
    assert view.iloc[1, -1] == "+2.0 (+2.0 to +2.0)"
    assert view.iloc[0, -1] == ""
    assert "mask IoU, true boxes" not in view


def test_coco_leads_where_its_protocol_does() -> None:
    view = fsis_view(fsis_rows(), "coco_ap")
    assert view.columns.tolist() == [
        *("system", "shots", "synthesis", "novel COCO AP", "COCO AP", "novel Cityscapes AP"),
        "novel COCO AP by synthesis (95 % over seeds)",
    ]
    assert view.iloc[1].tolist()[3:] == ["9.0 ± 0.0", "25.0 ± 0.0", "12.0 ± 0.0", "+1.0 (+1.0 to +1.0)"]
    grouping = pd.DataFrame([{"semantics": "true", "method": "siseg", "ap": 0.5, "coco_ap": 0.3, "coco_ap50": 0.4}])
    view = grouping_view(grouping.assign(iou=0.7, iou_touching=0.4, touching=9), "coco_ap")
    assert view.columns.tolist()[2:5] == ["COCO AP", "COCO AP50", "Cityscapes AP"]
    assert view.iloc[0].tolist()[2:5] == ["30.0", "40.0", "50.0"]
    costs = pd.DataFrame([{"segmenter": "s", "ap": 0.1, "ap50": 0.2}])
    assert cost_view(costs, "coco_ap").columns.tolist() == ["segmenter", "COCO AP", "COCO AP50"]


def test_other_tables_show_percent() -> None:
    gfss = pd.DataFrame(
        [{"shots": 1, "with_synthesis": True, "background": "excluded", "base": 0.5, "base_sd": 0.01, "novel": 0.1}]
    ).assign(mean=0.3, harmonic=0.1667)
    assert gfss_view(gfss).iloc[0].tolist() == ["1", "yes", "excluded", "50.0 ± 1.0", "10.0", "30.0", "16.7"]
    grouping = pd.DataFrame(
        [
            {
                "semantics": "true",
                "method": "siseg",
                "ap": 0.5,
                "ap50": 0.6,
                "coco_ap": 0.3,
                "iou": 0.7,
                "iou_touching": 0.4,
                "touching": 9,
            }
        ]
    )
    assert grouping_view(grouping).iloc[0].tolist() == ["true", "siseg", "50.0", "60.0", "30.0", "70.0", "40.0", "9"]
    costs = pd.DataFrame(
        [{"segmenter": "s", "parameters": 1.234, "trained": 1.0, "gmacs": 2.0, "ap": 0.1, "ap50": 0.2}]
    )
    assert cost_view(costs).iloc[0].tolist() == ["s", "1.23", "1.00", "2.0", "10.0", "20.0"]


class Convolution:
    """A predictor whose cost is known."""

    def __init__(self) -> None:
        self.model = nn.Conv2d(3, 8, 3, padding=1)
        self.model.bias.requires_grad_(False)

    def predict(self, images):
        with torch.inference_mode():
            self.model(torch.from_numpy(images[0]).permute(2, 0, 1)[None].float())
        return [pd.DataFrame()]


def test_costs_are_those_of_the_module() -> None:
    cost = measure(Convolution(), np.zeros((10, 20, 3), np.uint8))
    assert cost is not None
    assert cost.parameters == pytest.approx((3 * 8 * 9 + 8) / 1e6)
    assert cost.trained == pytest.approx(3 * 8 * 9 / 1e6)
    assert cost.gmacs == pytest.approx(10 * 20 * 3 * 8 * 9 / 1e9)
    assert cost.milliseconds > 0
    assert measure(object(), np.zeros((2, 2, 3), np.uint8)) is None


def test_recent_samples_stay_within_their_bytes() -> None:
    read: list[int] = []

    def sample(index: int):
        read.append(index)
        return np.zeros(60, np.uint8), np.zeros(10, np.int32)

    recent = _RecentSamples(250)
    for index in (0, 1, 0, 2, 0, 1):
        recent.get(index, sample)
    assert read == [0, 1, 2, 1]  # two of 100 bytes fit; 1 was the longest unused when 2 came
