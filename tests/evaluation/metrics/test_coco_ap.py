from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import encode_rle
from instsynth_dagster.evaluation.metrics.coco_ap import (
    AREAS,
    coco_average_precision,
    coco_matches,
    mean_of_valid,
    resampled_coco_aps,
)
from tests.evaluation.metrics.random_streets import SIZE, prediction_table, random_ids, random_predictions

CAR, ROAD = CITYSCAPES.by_name["car"].id, CITYSCAPES.by_name["road"].id


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def resampled_coco_ap(matches, weights: np.ndarray) -> np.ndarray:
    """Mean over classes and overlaps, float64 (R, 4), in the order of AREAS."""
    aps = resampled_coco_aps(matches, weights)
    return mean_of_valid(aps.transpose(0, 2, 1, 3).reshape(len(weights), len(AREAS), -1))


def two_cars() -> np.ndarray:
    ids = np.full(SIZE, ROAD, dtype=np.int32)
    ids[box(0, 0, 20, 20)] = CAR * 1000
    ids[box(100, 0, 140, 40)] = CAR * 1000 + 1
    return ids


def test_known_values() -> None:
    rows = [("car", 0.9, box(0, 0, 20, 20)), ("car", 0.8, box(100, 0, 140, 31))]
    scores = coco_average_precision(
        [(two_cars(), prediction_table("f", rows))], classes=CITYSCAPES.classes, labels=CITYSCAPES
    )
    first_only = 51 / 101
    assert scores.ap50 == pytest.approx(1.0)
    assert scores.ap75 == pytest.approx(1.0)
    assert scores.ap == pytest.approx((6 + 4 * first_only) / 10)
    assert scores.ap_small == pytest.approx(1.0)
    assert scores.ap_medium == pytest.approx(6 / 10)
    assert np.isnan(scores.ap_large)


def test_a_false_positive_before_the_hit_halves_precision() -> None:
    ids = two_cars()
    ids[ids == CAR * 1000 + 1] = ROAD
    rows = [("car", 0.9, box(50, 50, 70, 70)), ("car", 0.8, box(0, 0, 20, 20))]
    assert coco_average_precision(
        [(ids, prediction_table("f", rows))], classes=CITYSCAPES.classes, labels=CITYSCAPES
    ).ap == pytest.approx(0.5)


def test_what_lies_in_a_group_costs_nothing() -> None:
    ids = two_cars()
    ids[ids == CAR * 1000 + 1] = CAR
    rows = [("car", 0.9, box(100, 0, 110, 10)), ("car", 0.8, box(0, 0, 20, 20))]
    assert coco_average_precision(
        [(ids, prediction_table("f", rows))], classes=CITYSCAPES.classes, labels=CITYSCAPES
    ).ap == pytest.approx(1.0)


def test_equals_a_json_round_trip_through_pycocotools(tmp_path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(4)
    frames = [(ids := random_ids(rng), random_predictions(rng, ids, str(n))) for n in range(4)]
    truth, results = [], []
    for number, (ids, table) in enumerate(frames):
        for value in np.unique(ids):
            label_id = int(value if value < 1000 else value // 1000)
            if label_id in {CITYSCAPES.by_name[name].id for name in CITYSCAPES.classes}:
                mask = ids == value
                truth.append(
                    {
                        "id": len(truth) + 1,
                        "image_id": number,
                        "category_id": label_id,
                        "segmentation": encode_rle(mask),
                        "area": int(mask.sum()),
                        "bbox": [0, 0, 1, 1],
                        "iscrowd": int(value < 1000),
                    }
                )
        for row in table.itertuples():
            rle = {"size": list(ids.shape), "counts": row.mask_counts}
            label_id = CITYSCAPES.by_name[row.class_name].id
            results.append({"image_id": number, "category_id": label_id, "segmentation": rle, "score": row.score})
    (tmp_path / "truth.json").write_text(
        json.dumps(
            {
                "images": [{"id": n, "height": SIZE[0], "width": SIZE[1]} for n in range(4)],
                "categories": [{"id": CITYSCAPES.by_name[name].id, "name": name} for name in CITYSCAPES.classes],
                "annotations": truth,
            }
        )
    )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        official = COCOeval(coco, coco.loadRes(results), "segm")
        official.evaluate()
        official.accumulate()
        official.summarize()
    scores = coco_average_precision(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES)
    ours = [scores.ap, scores.ap50, scores.ap75, scores.ap_small, scores.ap_medium, scores.ap_large]
    np.testing.assert_allclose(np.nan_to_num(ours, nan=-1), official.stats[:6], rtol=0, atol=1e-12)


def test_nothing_predicted_nothing_there_and_no_output(capsys) -> None:
    assert (
        coco_average_precision(
            [(two_cars(), prediction_table("f", []))], classes=CITYSCAPES.classes, labels=CITYSCAPES
        ).ap
        == 0
    )
    assert np.isnan(
        coco_average_precision(
            [(np.full(SIZE, ROAD, dtype=np.int32), pd.DataFrame())], classes=CITYSCAPES.classes, labels=CITYSCAPES
        ).ap
    )
    empty = coco_average_precision([], ("car", "bus"), labels=CITYSCAPES)
    assert np.isnan(empty.ap50)
    assert empty.per_class["class_name"].tolist() == ["car", "bus"]
    assert capsys.readouterr().out == ""


def streets(count: int) -> list[tuple[np.ndarray, pd.DataFrame]]:
    rng = np.random.default_rng(7)
    return [(ids := random_ids(rng), random_predictions(rng, ids, str(n))) for n in range(count)]


def by_area(frames: list[tuple[np.ndarray, pd.DataFrame]]) -> list[float]:
    scores = coco_average_precision(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES)
    return [scores.ap, scores.ap_small, scores.ap_medium, scores.ap_large]


def test_resampling_without_copies_is_the_score_of_those_frames() -> None:
    frames = streets(5)
    weights = np.array([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]])
    found = resampled_coco_ap(coco_matches(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES), weights)
    chosen = [frames[index] for index in (0, 2, 3)]
    np.testing.assert_allclose(found, [by_area(frames), by_area(chosen)], rtol=0, atol=1e-12)


def test_copies_of_a_frame_count_as_frames() -> None:
    frames = streets(4)
    found = resampled_coco_ap(
        coco_matches(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES), np.array([[2, 0, 1, 3]])
    )
    copied = [frames[index] for index in (0, 0, 2, 3, 3, 3)]
    np.testing.assert_allclose(found[0], by_area(copied), atol=0.02)


def test_a_resampling_without_truth_has_no_score() -> None:
    empty = np.full(SIZE, ROAD, dtype=np.int32)
    frames = [(two_cars(), prediction_table("f", [("car", 0.9, box(0, 0, 20, 20))])), (empty, pd.DataFrame())]
    assert np.isnan(
        resampled_coco_ap(coco_matches(frames, classes=CITYSCAPES.classes, labels=CITYSCAPES), np.array([[0, 2]]))
    ).all()
