"""A second opinion on masks, given by something that finds what the test says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.images import decode_png, encode_png
from instsynth_dagster.data.masks import decode_rle, encode_rle
from instsynth_dagster.evaluation.report.gate_gallery import agreement_sheet
from instsynth_dagster.segmenters.contract import PREDICTION_COLUMNS
from instsynth_dagster.settings import GateSettings, IntegrationSettings
from instsynth_dagster.synthesis.gates import choose_crops, rejection
from instsynth_dagster.synthesis.mask_agreement import mask_agreement

HEIGHT, WIDTH, SIDE = 40, 60, 24
PAINT = (10, 200, 30)


class FakeFinder:
    """Finds what has the colour of the paint as a car, moved by some pixels, and something else as a bus."""

    def __init__(self, move: int = 0, score: float = 0.9) -> None:
        self.shown: list[np.ndarray] = []
        self._move, self._score = move, score

    def predict(self, images):
        self.shown += images
        return [self._found(image) for image in images]

    def _found(self, image):
        painted = np.roll((image == PAINT).all(axis=2), self._move, axis=1)
        rows = [("bus", 0.99, np.ones(painted.shape, bool)), ("car", self._score, painted)]
        key = [(name, score, encode_rle(mask)["counts"], *mask.shape) for name, score, mask in rows if mask.any()]
        return pd.DataFrame(key, columns=list(PREDICTION_COLUMNS))


def instance(x: int, y: int, name: str = "a:26000", class_name: str = "car") -> dict:
    """A square of 8 x 8 pixels in the middle of its crop, which may stick out of the frame."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[8:16, 8:16] = True
    box = {"crop_x1": x, "crop_y1": y, "crop_x2": x + SIDE, "crop_y2": y + SIDE}
    source = encode_png(np.full((SIDE, SIDE, 3), 90, np.uint8))
    counts = encode_rle(mask)["counts"]
    key = {"instance_id": name, "frame_id": "a", "class_name": class_name}
    return key | {"mask_counts": counts, "crop_png": source} | box


def crop(row: dict, replica: int = 0, failure: str = "") -> dict:
    painted = encode_png(np.full((SIDE, SIDE, 3), PAINT, np.uint8))
    key = {key: row[key] for key in ("instance_id", "class_name", "frame_id")}
    return key | {"replica": replica, "failure": failure, "image_png": painted}


def agreed(rows: list[dict], crops: list[dict], finder: FakeFinder, min_score: float = 0.1) -> pd.DataFrame:
    frame = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    settings = IntegrationSettings(feather=0)
    return pd.DataFrame(
        list(mask_agreement(pd.DataFrame(rows), pd.DataFrame(crops), lambda _: frame, finder, settings, min_score))
    )


@given(st.integers(-4, WIDTH - 16), st.integers(-4, HEIGHT - 16), st.integers(0, 8))
def test_the_iou_is_that_of_the_masks_in_the_frame(x, y, move):
    row = instance(x, y)
    finder = FakeFinder(move)
    table = agreed([row], [crop(row)], finder)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[max(y + 8, 0) : y + 16, max(x + 8, 0) : x + 16] = True
    found = np.roll(inside, move, axis=1)
    assert table["mask_iou"][0] == pytest.approx((inside & found).sum() / (inside | found).sum())
    np.testing.assert_array_equal((finder.shown[0] == PAINT).all(axis=2), inside)


def test_another_class_an_unsure_one_and_a_failed_crop_are_no_agreement():
    rows = [instance(5, 5), instance(20, 5, "a:31000", "train")]
    crops = [crop(rows[0]), crop(rows[0], 1, "one colour"), crop(rows[1])]
    finder = FakeFinder()
    table = agreed(rows, crops, finder)
    assert len(finder.shown) == 2
    assert table["mask_iou"].fillna(-1).tolist() == [1.0, -1, 0.0]
    assert table["found_counts"].astype(bool).tolist() == [True, False, False]
    assert agreed(rows, crops, FakeFinder(score=0.2), 0.3)["mask_iou"][0] == 0
    found = decode_rle({"size": [SIDE, SIDE], "counts": table["found_counts"][0]})
    assert found[8:16, 8:16].all()
    assert found.sum() == 64
    sheet = agreement_sheet(pd.DataFrame(rows), pd.DataFrame(crops), table)
    assert sheet.ndim == 3
    assert decode_png(crops[0]["image_png"]).shape == (SIDE, SIDE, 3)


def test_its_threshold_is_a_gate_like_the_others_and_spares_stand_in():
    gates = GateSettings(min_mask_iou=0.5)
    assert rejection({"mask_iou": 0.31}, gates) == "mask_iou 0.310 below 0.5"
    assert rejection({"mask_iou": float("nan")}, gates) == "mask_iou cannot be computed"
    assert rejection({"mask_iou": 0.5}, gates) == ""
    row = instance(5, 5)
    crops = pd.DataFrame([crop(row, replica) | {"seed": replica} for replica in range(3)])
    scores = pd.DataFrame({"instance_id": row["instance_id"], "replica": range(3), "mask_iou": [0.2, 0.4, 0.7]})
    (chosen,) = choose_crops(crops, scores, gates, replicas=1)
    assert chosen["seed"] == 2
    assert chosen["rejection"] == "mask_iou 0.200 below 0.5"
