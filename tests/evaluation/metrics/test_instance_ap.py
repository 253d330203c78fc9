from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.masks import decode_rle
from instsynth_dagster.evaluation.metrics.instance_ap import OVERLAPS, average_precision, match_frame, resampled_ap
from tests.evaluation.metrics.random_streets import SIZE, prediction_table, random_ids, random_predictions

Frames = list[tuple[np.ndarray, pd.DataFrame]]


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The official script as a function of frames: AP (8 classes, 10 overlaps) and its averages."""
    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.setattr(np, "count_nonzero", lambda array: int(np.sum(array != 0)))
    from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as script

    monkeypatch.chdir(tmp_path)

    def score(frames: Frames) -> tuple[np.ndarray, dict]:
        args = copy.copy(script.args)
        args.quiet, args.JSONOutput = True, False
        args.gtInstancesFile = str(tmp_path / "gtInstances.json")
        args.predictionPath = str(tmp_path)
        Path(args.gtInstancesFile).unlink(missing_ok=True)
        truths, predicted = [], []
        for number, (ids, table) in enumerate(frames):
            truths.append(str(tmp_path / f"town_{number:06}_000019_gtFine_instanceIds.png"))
            predicted.append(str(tmp_path / f"town_{number:06}_000019.txt"))
            Image.fromarray(ids.astype(np.uint16)).save(truths[-1])
            lines = []
            for index, row in enumerate(table.itertuples()):
                name = f"{number}_{index}.png"
                mask = decode_rle({"size": [row.mask_height, row.mask_width], "counts": row.mask_counts})
                Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / name)
                lines.append(f"{name} {CITYSCAPES.by_name[row.class_name].id} {row.score!r}\n")
            Path(predicted[-1]).write_text("".join(lines))
        result = script.evaluateImgLists(predicted, truths, args)
        return np.array(result["resultApMatrix"])[0], result["averages"]

    return score


def ours(frames: Frames) -> tuple[np.ndarray, object]:
    matches = [match_frame(ids, table, labels=CITYSCAPES) for ids, table in frames]
    return resampled_ap(matches, np.ones((1, len(matches)), dtype=int), classes=CITYSCAPES.classes)[
        0
    ], average_precision(matches, classes=CITYSCAPES.classes)


def random_frames(seed: int, count: int = 3) -> Frames:
    rng = np.random.default_rng(seed)
    frames = []
    for number in range(count):
        ids = random_ids(rng)
        frames.append((ids, random_predictions(rng, ids, f"town_{number}")))
    return frames


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_official_script(official, seed: int) -> None:
    frames = random_frames(seed)
    expected, averages = official(frames)
    matrix, scores = ours(frames)
    np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-12)
    assert scores.ap == pytest.approx(averages["allAp"], abs=1e-12)
    assert scores.ap50 == pytest.approx(averages["allAp50%"], abs=1e-12)
    for row in scores.per_class.itertuples():
        official_class = averages["classes"][row.class_name]
        assert row.ap == pytest.approx(official_class["ap"], abs=1e-12, nan_ok=True)
        assert row.ap50 == pytest.approx(official_class["ap50%"], abs=1e-12, nan_ok=True)
    assert 0 < scores.ap < scores.ap50 < 1


def road() -> np.ndarray:
    return np.full(SIZE, CITYSCAPES.by_name["road"].id, dtype=np.int32)


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


CAR, PERSON = CITYSCAPES.by_name["car"].id, CITYSCAPES.by_name["person"].id


def outcomes(ids: np.ndarray, rows: list[tuple[str, float, np.ndarray]]) -> list[list[int]]:
    return match_frame(ids, prediction_table("f", rows), labels=CITYSCAPES).outcome.tolist()


def test_a_void_share_above_the_overlap_excuses() -> None:
    ids = road()
    ids[box(0, 0, 20, 13)] = CITYSCAPES.by_name["static"].id
    [outcome] = outcomes(ids, [("car", 0.9, box(0, 0, 20, 20))])
    share = 13 / 20
    assert outcome == [-1 if share > overlap else 0 for overlap in OVERLAPS]


def test_an_overlap_of_exactly_the_threshold_is_no_match(official) -> None:
    ids = road()
    ids[box(0, 0, 20, 20)] = CAR * 1000
    rows = [("car", 0.9, box(0, 0, 20, 40))]
    assert outcomes(ids, rows) == [[0] * 10]
    frame = (ids, prediction_table("f", rows))
    np.testing.assert_array_equal(ours([frame])[0], official([frame])[0])


def test_single_caravans_are_not_void_but_their_group_is() -> None:
    single, group = road(), road()
    single[box(0, 0, 20, 20)] = CITYSCAPES.by_name["caravan"].id * 1000
    group[box(0, 0, 20, 20)] = CITYSCAPES.by_name["caravan"].id
    prediction = [("car", 0.9, box(0, 0, 20, 20))]
    assert outcomes(single, prediction) == [[0] * 10]
    assert outcomes(group, prediction) == [[-1] * 10]


def test_a_small_group_counts_twice(official) -> None:
    ids = road()
    ids[box(0, 0, 9, 10)] = CAR
    ids[box(60, 60, 90, 90)] = CAR * 1000
    rows = [("car", 0.9, box(0, 0, 15, 10)), ("car", 0.8, box(60, 60, 90, 90))]
    assert outcomes(ids, rows)[0] == [-1] * 10
    ids_of_large = ids.copy()
    ids_of_large[box(100, 0, 110, 10)] = CAR
    assert outcomes(ids_of_large, rows)[0] == [-1 if overlap < 0.6 else 0 for overlap in OVERLAPS]
    for frame in (ids, ids_of_large):
        table = prediction_table("f", rows)
        np.testing.assert_allclose(ours([(frame, table)])[0], official([(frame, table)])[0], rtol=0, atol=1e-12)


def test_instances_below_100_pixels_neither_count_nor_cost() -> None:
    ids = road()
    ids[box(0, 0, 11, 9)] = PERSON * 1000
    matches = match_frame(ids, prediction_table("f", [("person", 0.9, box(0, 0, 11, 9))]), labels=CITYSCAPES)
    assert matches.outcome.tolist() == [[-1] * 10]
    assert matches.instances.sum() == 0
    assert np.isnan(average_precision([matches], classes=CITYSCAPES.classes).ap)


def test_of_duplicates_the_best_score_wins_whatever_its_place() -> None:
    ids = road()
    ids[box(0, 0, 20, 20)] = CAR * 1000 + 7
    rows = [("car", 0.5, box(0, 0, 20, 20)), ("car", 0.7, box(0, 0, 20, 18)), ("car", 0.6, box(0, 0, 20, 20))]
    assert [row[0] for row in outcomes(ids, rows)] == [0, 1, 0]
    assert [row[9] for row in outcomes(ids, rows)] == [0, 0, 1]


def test_no_crash_when_every_prediction_of_a_class_is_ignored() -> None:
    ids = road()
    ids[box(0, 0, 20, 20)] = CAR
    ids[box(40, 40, 60, 60)] = CAR * 1000
    scores = average_precision(
        [match_frame(ids, prediction_table("f", [("car", 0.9, box(0, 0, 20, 20))]), labels=CITYSCAPES)], ["car"]
    )
    assert (scores.ap, scores.ap50) == (0.0, 0.0)


def test_no_predictions_and_no_ground_truth(official) -> None:
    ids = road()
    ids[box(0, 0, 20, 20)] = 32000
    empty = prediction_table("f", [])
    matrix, scores = ours([(ids, empty)])
    np.testing.assert_array_equal(matrix, official([(ids, empty)])[0])
    assert scores.ap == 0
    assert scores.per_class.set_index("class_name")["instances"]["motorcycle"] == 1
    assert np.isnan(
        average_precision([match_frame(road(), pd.DataFrame(), labels=CITYSCAPES)], classes=CITYSCAPES.classes).ap
    )
    assert np.isnan(average_precision([], classes=CITYSCAPES.classes).ap50)


def test_only_chosen_classes_are_averaged() -> None:
    matches = [match_frame(ids, table, labels=CITYSCAPES) for ids, table in random_frames(3)]
    every = average_precision(matches, classes=CITYSCAPES.classes).per_class.set_index("class_name")
    chosen = average_precision(matches, ("car", "bus"))
    assert chosen.ap == pytest.approx(np.nanmean(every.loc[["car", "bus"], "ap"]))
    assert chosen.per_class["class_name"].tolist() == ["car", "bus"]


def test_a_resampling_equals_scoring_the_repeated_frames() -> None:
    matches = [match_frame(ids, table, labels=CITYSCAPES) for ids, table in random_frames(11, 5)]
    weights = np.array([[2, 0, 0, 1, 2], [1, 1, 1, 1, 1], [0, 0, 5, 0, 0]])
    resampled = resampled_ap(matches, weights, classes=CITYSCAPES.classes)
    for row, repeats in zip(resampled, weights, strict=True):
        repeated = [match for match, times in zip(matches, repeats, strict=True) for _ in range(times)]
        expected = average_precision(repeated, classes=CITYSCAPES.classes).per_class["ap"]
        np.testing.assert_allclose(row.mean(axis=1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("frame_order", [[0, 1, 2], [2, 0, 1]])
def test_order_of_predictions_and_frames_does_not_matter(frame_order: list[int]) -> None:
    frames = random_frames(5)
    shuffled = [(frames[i][0], frames[i][1].sample(frac=1, random_state=i)) for i in frame_order]
    np.testing.assert_allclose(ours(shuffled)[0], ours(frames)[0], rtol=0, atol=1e-12)


def test_bad_predictions_are_refused() -> None:
    wrong_size = prediction_table("f", [("car", 0.5, np.ones((4, 5), dtype=bool))])
    with pytest.raises(ValueError, match="size of the frame, 96x160"):
        match_frame(road(), wrong_size, labels=CITYSCAPES)
    with pytest.raises(ValueError, match="not a number"):
        match_frame(road(), prediction_table("f", [("car", float("nan"), box(0, 0, 5, 5))]), labels=CITYSCAPES)


def test_classes_outside_the_protocol_are_passed_over() -> None:
    assert set(CITYSCAPES.classes).isdisjoint({"caravan"})
    assert outcomes(road(), [("caravan", 0.9, box(0, 0, 20, 20))]) == []
