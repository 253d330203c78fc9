"""Folds, shots and metrics of the published protocols."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.errors import DatasetError
from instsynth_dagster.evaluation.metrics.few_shot_iou import confusion, gfss_scores
from instsynth_dagster.few_shot.folds import (
    Candidate,
    class_fold,
    coco_candidates,
    coco_fold,
    pascal_candidates,
    pascal_fold,
)
from instsynth_dagster.few_shot.gfss import shot_candidates
from instsynth_dagster.few_shot.imprinting import CosineHead, train_base
from instsynth_dagster.few_shot.shots import draw_shots


@pytest.mark.parametrize(
    ("fold_of", "everything"),
    [
        (pascal_fold, set(range(1, 21))),
        (coco_fold, set(range(1, 81))),
        (lambda fold: coco_fold(fold, contiguous=True), set(range(1, 81))),
        (lambda fold: class_fold(fold, CITYSCAPES.classes), set(CITYSCAPES.classes)),
    ],
)
def test_folds_share_out_the_classes(fold_of, everything) -> None:
    folds = [fold_of(fold) for fold in range(4)]
    assert set().union(*folds) == everything
    assert sum(map(len, folds)) == len(everything)
    assert len({len(fold) for fold in folds}) == 1
    with pytest.raises(ValueError, match="folds are 0 to 3"):
        fold_of(4)


def test_folds_are_the_published_ones() -> None:
    assert pascal_fold(1) == (6, 7, 8, 9, 10)
    assert coco_fold(2)[:3] == (3, 7, 11)
    assert coco_fold(1, contiguous=True)[0] == 21


def candidates() -> list[Candidate]:
    rng = np.random.default_rng(0)
    return [Candidate(f"i{n}", {c: int(rng.integers(0, 30_000)) for c in rng.choice(6, 2)}) for n in range(60)]


@given(seed=st.integers(0, 50), novel=st.integers(0, 5), few=st.integers(1, 5), many=st.integers(5, 12))
def test_shots_are_nested_eligible_and_seeded(seed: int, novel: int, few: int, many: int) -> None:
    images = candidates()
    chosen = draw_shots(images, novel, many, seed, novel_classes=(novel, 5))
    assert chosen[:few] == draw_shots(images[::-1], novel, few, seed, novel_classes=(novel, 5))
    areas = {candidate.image_id: candidate.areas for candidate in images}
    assert all(areas[image][novel] >= 16 * 32 * 32 for image in chosen)
    assert novel == 5 or not any(areas[image].get(5) for image in chosen)


def test_too_few_candidates_come_again_and_none_is_an_error() -> None:
    images = [Candidate("a", {1: 20_000}), Candidate("b", {1: 10, 2: 9})]
    assert draw_shots(images, 1, 3, seed=0) == ["a", "a", "a"]
    assert draw_shots(images, 2, 1, seed=0) == ["b"]  # too small, but the only one
    with pytest.raises(ValueError, match="no image shows 7"):
        draw_shots(images, 7, 1, seed=0)


def test_metrics_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 255, 1]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [2, 1, 2, 0]], np.uint8)
    matrix = confusion(truth, predicted, 3)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [0, 1, 1]]
    iou = [1 / 3, 2 / 5, 1 / 2]
    excluded, included = (gfss_scores(matrix, [2], flag) for flag in ("excluded", "in_base"))
    assert excluded.base == pytest.approx(iou[1])
    assert included.base == pytest.approx((iou[0] + iou[1]) / 2)
    assert excluded.novel == included.novel == pytest.approx(iou[2])  # the flag changes base only
    assert excluded.mean == pytest.approx((iou[1] + iou[2]) / 2)
    assert excluded.harmonic == pytest.approx(2 * iou[1] * iou[2] / (iou[1] + iou[2]))


@given(base=st.floats(0, 1), novel=st.floats(0, 1))
def test_harmonic_is_symmetric_and_zero_with_either(base: float, novel: float) -> None:
    def matrix(first: float, second: float) -> np.ndarray:
        return np.array([[1e9, 0, 0], [1 - first, first, 0], [1 - second, 0, second]])

    one, other = gfss_scores(matrix(base, novel), [2]), gfss_scores(matrix(novel, base), [2])
    assert one.harmonic == pytest.approx(other.harmonic)
    assert gfss_scores(matrix(base, 0.0), [2]).harmonic == 0


def test_lists_of_pascal(tmp_path) -> None:
    (tmp_path / "ImageSets/SegmentationAug").mkdir(parents=True)
    (tmp_path / "SegmentationClassAug").mkdir()
    labels = np.zeros((10, 10), np.uint8)
    labels[:2], labels[5:, 5:], labels[9] = 3, 15, 255
    (tmp_path / "SegmentationClassAug/2007_000001.png").write_bytes(encode_png(labels))
    listed = tmp_path / "ImageSets/SegmentationAug/val.txt"
    listed.write_text("JPEGImages/2007_000001.jpg SegmentationClassAug/2007_000001.png\n")
    [found] = pascal_candidates(tmp_path, "val")
    assert found == Candidate("2007_000001", {3: 20, 15: 20})
    listed.write_text("2007_000002\n")
    with pytest.raises(DatasetError, match=r"2007_000002\.png: no such class map"):
        list(pascal_candidates(tmp_path, "val"))
    with pytest.raises(DatasetError, match="needs VOC 2012"):
        list(pascal_candidates(tmp_path, "train"))


def test_lists_of_coco(tmp_path) -> None:
    path = tmp_path / "instances.json"
    rows = [(7, 1, 50.4, 0), (7, 1, 10.0, 0), (7, 90, 5.0, 0), (8, 1, 9.0, 1)]
    annotations = [{"image_id": i, "category_id": c, "area": a, "iscrowd": crowd} for i, c, a, crowd in rows]
    data = {"images": [{"id": 7}, {"id": 8}], "categories": [{"id": 90}, {"id": 1}], "annotations": annotations}
    path.write_text(json.dumps(data))
    assert list(coco_candidates(path)) == [Candidate("000000000007", {1: 60, 2: 5}), Candidate("000000000008", {})]
    path.write_text("{}")
    with pytest.raises(DatasetError, match="not a COCO instance file"):
        list(coco_candidates(path))


def test_an_imprinted_head_knows_base_and_novel() -> None:
    rng = np.random.default_rng(0)
    vectors = np.eye(6)[:4] + 0.5

    def image(present: list[int]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.repeat(rng.choice(present, (8, 8)), 4, 0), 4, 1).astype(np.uint8)
        features = vectors[labels[::4, ::4]] + 0.1 * rng.normal(size=(8, 8, 6))
        return features.astype(np.float32), labels

    head = train_base([image([0, 1, 2, 3]) for _ in range(4)], 4, [3], seed=0)
    assert not head.weights[3].any()
    query, labels = image([0, 1, 2, 3])
    blind = head.predict(query, labels.shape)
    assert not (blind == 3).any()
    shot, shown = image([0, 3])
    whole = head.imprint({3: [(shot, shown == 3)]})
    scores = gfss_scores(confusion(labels, whole.predict(query, labels.shape), 4), [3])
    assert min(scores.base, scores.novel) > 0.7
    assert np.array_equal(whole.weights[:3], head.weights[:3])


def test_many_synthetic_images_count_as_much_as_their_shots() -> None:
    head = CosineHead(np.zeros((2, 3), np.float32), np.zeros(3))
    mask = np.ones((4, 4), dtype=bool)
    shot, painted = (np.tile(np.array(v, np.float32), (4, 4, 1)) for v in ((1, 0, 0), (0, 1, 0)))
    for copies in (1, 9):
        row = head.imprint({1: [(shot, mask)]}, {1: [(painted, mask)] * copies}).weights[1]
        assert row.tolist() == pytest.approx([0.5**0.5, 0.5**0.5, 0])
    assert head.imprint({1: [(shot, mask)]}, {1: []}).weights[1].tolist() == [1, 0, 0]


def test_a_shot_shows_no_other_novel_class_not_even_one_that_was_not_selected():
    selected = pd.DataFrame({"frame_id": ["a", "b", "c"]})
    instances = pd.DataFrame(
        {
            "frame_id": ["a", "a", "b", "c", "c"],
            "class_name": ["bus", "train", "bus", "bus", "car"],
            "area": [50, 3, 40, 60, 900],
        }
    )
    candidates = shot_candidates(selected, instances, ["bus", "train"])
    assert [candidate.areas for candidate in candidates] == [
        {"bus": 50, "train": 3},
        {"bus": 40, "train": 0},
        {"bus": 60, "train": 0},
    ]
    shots = draw_shots(candidates, "bus", 2, 0, novel_classes=["bus", "train"], min_area=1)
    assert sorted(shots) == ["b", "c"]
