"""SISeg: fields, pairs, grouping and propagation, each against what is known without the network."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.evaluation.metrics.grouping import grouping_rows, grouping_scores
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.siseg.config import SISegConfig
from instsynth_dagster.segmenters.siseg.grouping import destinations, group, nearest_number, to_pixels
from instsynth_dagster.segmenters.siseg.instances import connected_components, numbered
from instsynth_dagster.segmenters.siseg.pairs import affinity, gauge_loss, line, pair_losses, pair_offsets, pairs_at
from instsynth_dagster.segmenters.siseg.propagation import propagate, transition
from instsynth_dagster.segmenters.siseg.targets import class_components, displacements, semantic_classes, siseg_targets
from tests.segmenters.toy import ToyDataset, tiny

CONFIG = SISegConfig(classes=("person", "car"))


def ellipses(seed: int, count: int = 6, side: int = 64) -> np.ndarray:
    """Instance numbers of ellipses that overlap each other, later ones in front, each in one piece."""
    rng = np.random.default_rng(seed)
    ys, xs = np.mgrid[:side, :side]
    numbers = np.zeros((side, side), dtype=np.int32)
    for number in range(1, count + 1):
        (y, x), (a, b) = rng.uniform(8, side - 8, 2), rng.uniform(5, 11, 2)
        numbers[((ys - y) / a) ** 2 + ((xs - x) / b) ** 2 < 1] = number
    for number in range(1, count + 1):
        pieces, found = ndimage.label(numbers == number)
        if found > 1:
            numbers[(pieces > 0) & (pieces != 1)] = 0
    return numbers


def mean_iou(truth: np.ndarray, found: np.ndarray) -> float:
    ious = []
    for number in np.unique(truth[truth > 0]):
        own = truth == number
        ious.append(max(((own & (found == f)).sum() / (own | (found == f)).sum()) for f in np.unique(found)))
    return float(np.mean(ious))


def field_of(numbers: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.nan_to_num(displacements(numbers)))


def test_a_true_field_groups_what_connected_components_cannot() -> None:
    fields, components = [], []
    for seed in range(8):
        numbers = ellipses(seed)
        semantics = (numbers > 0).astype(np.uint8)
        fields.append(mean_iou(numbers, group(field_of(numbers), class_components(semantics), CONFIG)))
        components.append(mean_iou(numbers, ndimage.label(semantics)[0]))
    assert np.mean(fields) >= 0.95
    assert np.mean(components) < np.mean(fields) - 0.15


def test_two_touching_squares_are_found_exactly() -> None:
    numbers = np.zeros((32, 32), dtype=np.int32)
    numbers[8:20, 4:16], numbers[8:20, 16:28] = 1, 2
    found = group(field_of(numbers), (numbers > 0).astype(np.int32), CONFIG)
    assert mean_iou(numbers, found) == 1.0
    assert (found > 0).sum() == (numbers > 0).sum()


def test_classes_and_pieces_stay_apart() -> None:
    """Two touching classes, and one class in two pieces whose field says that they are one."""
    semantics = np.zeros((24, 40), dtype=np.uint8)
    semantics[4:12, 4:12], semantics[4:12, 12:20], semantics[4:12, 26:34] = 1, 2, 1
    found = group(torch.zeros(2, 24, 40), class_components(semantics), CONFIG)
    assert len(np.unique(found[found > 0])) == 3


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_true_displacements_fit_the_pair_losses(seed: int) -> None:
    """D_a - D_b = x_b - x_a within an instance, whatever its shape."""
    numbers = ellipses(seed, 4, 32)
    field, labels = field_of(numbers)[None], torch.from_numpy(numbers.astype(np.int64))[None]
    losses = pair_losses(field, torch.full((1, 1, 32, 32), 0.5), labels, pair_offsets(5))
    assert losses.displacement.item() == pytest.approx(0, abs=1e-4)
    moved = pair_losses(field + 3.0, torch.full((1, 1, 32, 32), 0.5), labels, pair_offsets(5))
    assert moved.displacement.item() == pytest.approx(0, abs=1e-4)  # the freedom that the gauge takes away


def test_a_shifted_image_shifts_centroids_and_not_the_field() -> None:
    numbers = ellipses(3)
    numbers[:, -8:] = numbers[:8] = 0
    shifted = np.roll(numbers, (-8, 8), (0, 1))
    np.testing.assert_allclose(np.roll(displacements(numbers), (-8, 8), (1, 2)), displacements(shifted), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_gauge_holds_for_whole_instances_and_for_nothing_else(seed: int) -> None:
    numbers = ellipses(seed, 4, 32)
    components = torch.from_numpy(class_components((numbers > 0).astype(np.uint8)).astype(np.int64))[None]
    field = field_of(numbers)[None]
    assert gauge_loss(field, components).item() == pytest.approx(0, abs=1e-4)
    constant = torch.where(components[:, None] > 0, field + 2.0, field)
    assert gauge_loss(constant, components).item() == pytest.approx(4.0, abs=1e-3)  # |2| in y and in x


def test_pairs_are_counted_once() -> None:
    assert (len(pair_offsets(10)), len(pair_offsets(5))) == (152, 34)
    seen = np.zeros((12, 12), dtype=int)
    for offset in pair_offsets(5):
        one, other = pairs_at(offset, (12, 12)).ends(torch.arange(144).view(12, 12))
        assert len(np.unique(one.numpy())) == one.numel()
        seen[5, 5] += int((one == 5 * 12 + 5).sum()) + int((other == 5 * 12 + 5).sum())
    assert seen[5, 5] == 2 * 34  # an inner cell has every neighbour within the radius, each once


def test_an_affinity_is_what_the_worst_cell_on_the_line_leaves() -> None:
    boundary = torch.zeros(1, 9, 9)
    boundary[0, :, 4] = 0.9
    pairs = pairs_at((0, 4), (9, 9))
    assert affinity(boundary, pairs)[0, 0].tolist() == pytest.approx([0.1] * 5)
    assert affinity(boundary, pairs_at((1, 0), (9, 9)))[0, :, 0].tolist() == pytest.approx([1.0] * 8)
    assert next(iter(line((2, -4)))) == (0, 0)
    assert list(line((2, -4)))[-1] == (2, -4)


def test_the_walk_keeps_mass_and_equals_the_dense_power() -> None:
    rng = np.random.default_rng(0)
    boundary, semantics = rng.random((16, 16)), rng.integers(1, 3, (16, 16))
    matrix = transition(boundary, semantics, 5, 10.0)
    np.testing.assert_allclose(np.asarray(matrix.sum(0)).ravel(), 1, atol=1e-12)
    scores = rng.random((3, 16, 16))
    walked = propagate(scores, matrix, 20)
    np.testing.assert_allclose(walked.sum((1, 2)), scores.sum((1, 2)))
    dense = np.linalg.matrix_power(matrix.toarray(), 20) @ scores.reshape(3, -1).T
    np.testing.assert_allclose(walked, dense.T.reshape(3, 16, 16), rtol=1e-9)


def test_nothing_walks_through_a_closed_contour() -> None:
    boundary = np.zeros((24, 24))
    boundary[6, 6:18] = boundary[17, 6:18] = boundary[6:18, 6] = boundary[6:18, 17] = 1.0
    start = np.zeros((1, 24, 24))
    start[0, 12, 12] = 1.0
    end = propagate(start, transition(boundary, np.ones((24, 24), int), 5, 10.0), 256)
    assert end[0, 6:18, 6:18].sum() == pytest.approx(1.0)


def test_following_a_field_ends_at_its_centre() -> None:
    numbers = ellipses(1, 1)
    ends = destinations(field_of(numbers), 100)
    ys, xs = np.nonzero(numbers)
    assert np.abs(ends[:, ys, xs].numpy() - np.array([[ys.mean()], [xs.mean()]])).max() < 0.6


def test_every_pixel_of_a_class_gets_a_number_of_its_own_piece() -> None:
    pieces = np.zeros((40, 60), dtype=np.int32)
    pieces[4:30, 4:40], pieces[35:38, 50:52] = 1, 2  # the second is too small for the grid
    grid = pieces[2::4, 2::4].copy()
    grid[grid == 2] = 0
    instances = np.where(grid == 1, 1 + (np.arange(15) > 4)[None], 0).astype(np.int32)
    found = to_pixels(instances, grid, pieces)
    assert ((found > 0) == (pieces > 0)).all()
    assert set(np.unique(found)) == {0, 1, 2, 3}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_nearest_number_leaves_numbers_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    numbers = rng.integers(1, 5, (12, 15)) * (rng.random((12, 15)) < 0.2)
    full = nearest_number(numbers.astype(np.int32))
    assert (full[numbers > 0] == numbers[numbers > 0]).all()
    assert (full > 0).all() or not numbers.any()


def test_semantic_supervision_does_not_see_instances() -> None:
    """The same classes with other instance numbers teach the same."""
    _, ids = ToyDataset()[0]
    other = np.where(ids >= 1000, ids + 7, ids)
    targets = siseg_targets(SISegConfig(classes=("person", "car", "motorcycle")), labels=CITYSCAPES)
    one, two = (targets(torch.from_numpy(x)) for x in (ids, other))
    assert all(torch.equal(one[name].nan_to_num(-9), two[name].nan_to_num(-9)) for name in one)
    assert one["centroids"].isnan().all()


RECIPE = {"kind": "siseg", "steps": 30, "batch_size": 4, "learning_rate": 2e-3, "backbone_lr_factor": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("supervision", ["semantic", "instance"])
def test_training_learns_and_survives_a_kill(supervision, tmp_path) -> None:
    recipe = tiny(
        **RECIPE,
        crop=(64, 64),
        checkpoint_every=10,
        architecture={"supervision": supervision, "widths": (8, 16, 16)},
    )
    segmenter = get_segmenter("siseg")

    def fit(name: str, progress=None):
        return segmenter.fit(
            ToyDataset(),
            recipe,
            classes=("person", "car", "motorcycle"),
            seed=0,
            out=tmp_path / name / "checkpoint",
            scratch=tmp_path / name / "scratch",
            progress=progress,
        )

    whole = fit("whole")
    assert whole.curve["loss"].iloc[-1] < 0.8 * whole.curve["loss"].iloc[0]

    def kill(done: int, *_: float) -> None:
        if done == 25:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("killed", kill)
    pd.testing.assert_frame_equal(fit("killed").curve, whole.curve)

    predictor = segmenter.load(whole.folder, recipe, labels=CITYSCAPES)
    image, ids = ToyDataset(9)[8]
    found = predictor.instances(image, CITYSCAPES.label_ids(ids))
    assert (
        CITYSCAPES.label_ids(found)[found > 0] == CITYSCAPES.label_ids(ids)[found > 0]
    ).all()  # classes are given, not guessed
    again = segmenter.load(tmp_path / "killed" / "checkpoint", recipe, labels=CITYSCAPES).instances(
        image, CITYSCAPES.label_ids(ids)
    )
    assert (found == again).all()
    with pytest.raises(SettingsError, match="semantic maps"):
        predictor.predict([image])


def test_connected_components_are_one_instance_each() -> None:
    labels = np.full((20, 30), 7, dtype=np.uint8)
    labels[2:10, 2:10], labels[2:10, 10:18], labels[12:18, 2:8] = 26, 24, 26
    ids = numbered(connected_components(labels, ("person", "car"), labels=CITYSCAPES), labels, labels=CITYSCAPES)
    assert set(np.unique(ids)) == {7, 24000, 26000, 26001}


def test_more_instances_than_ids_become_a_group_and_no_other_class() -> None:
    """1,003 cars, of which three are the smallest, and a truck."""
    numbers = np.arange(1, 1004).repeat(2).reshape(-1, 1)
    numbers = np.concatenate([numbers, [[1004]] * 3])
    for small in (5, 500, 1003):
        numbers[np.flatnonzero(numbers[:, 0] == small)[1]] = 0
    labels = np.where(numbers == 1004, 27, 26).astype(np.uint8)
    ids = numbered(numbers, labels, labels=CITYSCAPES)
    assert set(np.unique(ids)) == {0, 26, *range(26000, 27000), 27000}
    assert {int(number) for number in numbers[ids == 26]} == {5, 500, 1003}
    assert (ids[numbers == 1004] == 27000).all()


def test_touching_instances_are_counted_as_such() -> None:
    ids = np.full((40, 60), 7, dtype=np.int32)
    ids[5:20, 5:20], ids[5:20, 20:35], ids[25:38, 5:20] = 26000, 26001, 26002
    merged = np.where(ids == 26001, 26000, ids)
    rows = grouping_rows(ids, merged, ("car",), labels=CITYSCAPES)
    assert rows["touching"].tolist() == [True, True, False]
    assert rows["iou"].tolist() == [0.5, 0.5, 1.0]
    assert grouping_scores(rows)["iou_touching"] == 0.5
    assert semantic_classes(np.array([[26, 7, 0]], np.uint8), ("car",), labels=CITYSCAPES).tolist() == [[1, 0, 255]]
