"""SABR: it writes where it may and nowhere else."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.refinement.boundary import Proposal, boundary_band, boundary_f
from instsynth_dagster.refinement.refine import KEPT, LOST, refine_instances
from instsynth_dagster.refinement.refiners.grabcut import GrabCut
from instsynth_dagster.refinement.refiners.points import interior_points
from instsynth_dagster.settings import BoundarySettings, FeatureSettings, RefinementSettings

SIZE = (72, 96)
ROAD, SKY, CAR, PERSON = 7, 23, 26000, 24256


class FakeRefiner:
    """Says what it is told to."""

    def __init__(self, answer) -> None:
        self.answer = answer

    def refine(self, image, boxes, coarse):
        return [Proposal(self.answer(mask), 1.0) for mask in coarse]


def settings(**boundary) -> RefinementSettings:
    features = FeatureSettings(model="none")
    return RefinementSettings(features=features, boundary=BoundarySettings(min_iou=0.0, **boundary))


def ellipse(x: int, y: int, a: int, b: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.ellipse(mask, (x, y), (a, b), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def street(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, its true ids, and coarse ids: the car dilated or eroded and shifted; the person as it is."""
    rng = np.random.default_rng(seed)
    truth = np.full(SIZE, ROAD, np.int32)
    truth[:30] = SKY
    car = ellipse(int(rng.integers(26, 40)), int(rng.integers(30, 44)), int(rng.integers(14, 22)), 14)
    person = ellipse(76, 36, 8, 20)
    truth[car], truth[person] = CAR, PERSON
    colors = {ROAD: (90, 90, 95), SKY: (150, 180, 220), CAR: (200, 40, 40), PERSON: (40, 60, 160)}
    image = np.zeros((*SIZE, 3), np.float32)
    for value, color in colors.items():
        image[truth == value] = color
    image += rng.normal(0, 9, image.shape)
    change = cv2.dilate if rng.random() < 0.5 else cv2.erode
    coarse_car = change(car.astype(np.uint8), np.ones((5, 5))).astype(bool)
    coarse_car = np.roll(coarse_car, rng.integers(-2, 3, 2), (0, 1)) & ~person
    coarse = np.where(truth == CAR, ROAD, truth)
    coarse[coarse_car] = CAR
    return image.clip(0, 255).astype(np.uint8), truth, coarse


def refined(image, ids, refiner, **options):
    return refine_instances(image, ids, [CAR], None, None, refiner, settings(), **options, labels=CITYSCAPES)


def iou(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float((ours & theirs).sum() / (ours | theirs).sum())


def test_grabcut_finds_the_drawn_border() -> None:
    before, after, edges = [], [], []
    for seed in range(20):
        image, truth, coarse = street(seed)
        done = refined(image, coarse, GrabCut(BoundarySettings(), "cpu"))
        before.append(iou(coarse == CAR, truth == CAR))
        after.append(iou(done.ids == CAR, truth == CAR))
        edges.append([boundary_f(ids == CAR, truth == CAR, 1.0) for ids in (coarse, done.ids)])
    assert np.mean(before) < 0.85
    assert np.mean(after) > 0.93
    assert np.mean(edges, axis=0)[1] > np.mean(edges, axis=0)[0] + 0.2


@given(seed=st.integers(0, 40), noise=st.integers(0, 99))
def test_outside_the_band_nothing_changes(seed: int, noise: int) -> None:
    image, _, coarse = street(seed)
    rng = np.random.default_rng(noise)
    done = refined(image, coarse, FakeRefiner(lambda mask: rng.random(mask.shape) < 0.5))
    band = boundary_band(coarse == CAR, 4)
    assert np.array_equal(done.ids[~band], coarse[~band])


@given(seed=st.integers(0, 40))
def test_an_oracle_never_makes_the_border_worse(seed: int) -> None:
    image, truth, coarse = street(seed)
    done = refined(image, coarse, FakeRefiner(lambda _: truth == CAR))
    ours, before = done.ids == CAR, coarse == CAR
    assert boundary_f(ours, truth == CAR) >= boundary_f(before, truth == CAR)
    assert iou(ours, truth == CAR) >= iou(before, truth == CAR)


@given(seed=st.integers(0, 40))
def test_the_damage_of_a_madman_stays_in_the_band(seed: int) -> None:
    image, _, coarse = street(seed)
    done = refined(image, coarse, FakeRefiner(np.ones_like))
    band = boundary_band(coarse == CAR, 4)
    assert np.array_equal(done.ids[~band], coarse[~band])
    assert ((done.ids == PERSON) == (coarse == PERSON)).all()  # neighbours lose nothing
    done = refined(image, coarse, FakeRefiner(np.ones_like), grow=False)
    assert np.array_equal(done.ids, coarse)


def test_masks_stay_disjoint_and_keep_their_ids() -> None:
    image, _, coarse = street(1)
    coarse[20:60, 60:70] = 26001
    options = (None, None, FakeRefiner(np.ones_like), settings())
    done = refine_instances(image, coarse, [CAR, 26001, PERSON], *options, labels=CITYSCAPES)
    assert {CAR, 26001, PERSON} <= set(np.unique(done.ids))
    for value in (CAR, 26001, PERSON):
        others = (coarse >= 1000) & (coarse != value) & ~boundary_band(coarse == value, 4)
        assert not ((done.ids == value) & others).any()
        interior = (coarse == value) & ~boundary_band(coarse == value, 4)
        assert (done.ids[interior] == value).all()


def test_a_proposal_of_something_else_is_rejected() -> None:
    image, _, coarse = street(2)
    strict = RefinementSettings(features=FeatureSettings(model="none"), boundary=BoundarySettings(min_iou=0.5))
    elsewhere = FakeRefiner(lambda mask: np.roll(mask, 60, 1))
    done = refine_instances(image, coarse, [CAR], None, None, elsewhere, strict, labels=CITYSCAPES)
    assert np.array_equal(done.ids, coarse)
    assert done.records[0]["refiner"] == "rejected"


def test_an_instance_that_loses_most_of_itself_is_ignored_and_counted() -> None:
    image, _, coarse = street(3)
    features = np.zeros((18, 24, 2), np.float32)
    features[..., 1] = 1.0
    from instsynth_dagster.refinement.prototypes import Prototypes

    known = Prototypes({"car": np.array([1.0, 0.0])}, np.array([0.0, 1.0]))
    done = refine_instances(image, coarse, [CAR], features, known, None, settings(), labels=CITYSCAPES)
    [record] = done.records
    assert record["verdict"] == LOST
    assert record["freed"] == record["given_away"] == record["pixels_before"] == (coarse == CAR).sum()
    assert not (done.ids == CAR).any()
    assert set(np.unique(done.ids[coarse == CAR])) <= {ROAD, SKY}  # clearly background: the nearest stuff
    unclear = Prototypes({"car": np.array([1.0, 0.0])}, np.array([0.6, 0.8]))
    cautious = settings().model_copy(update={"margin": 2.0})
    done = refine_instances(image, coarse, [CAR], features, unclear, None, cautious, labels=CITYSCAPES)
    assert (done.ids[coarse == CAR] == CITYSCAPES.by_name["unlabeled"].id).all()
    assert done.records[0]["unclear"] == (coarse == CAR).sum()


def test_an_instance_that_keeps_its_shape_is_left_alone() -> None:
    image, truth, _ = street(4)
    done = refined(image, truth, FakeRefiner(lambda mask: mask))
    assert np.array_equal(done.ids, truth)
    assert done.records[0]["verdict"] == KEPT
    assert done.records[0]["border_added"] == done.records[0]["border_removed"] == 0


def test_boundary_f_of_known_masks() -> None:
    mask = ellipse(40, 36, 20, 16)
    assert boundary_f(mask, mask) == 1.0
    assert boundary_f(mask, np.roll(mask, 1, 1), 2.0) == 1.0
    assert boundary_f(mask, ellipse(40, 36, 8, 6), 2.0) < 0.2
    empty = np.zeros_like(mask)
    assert (boundary_f(empty, empty), boundary_f(mask, empty)) == (1.0, 0.0)


@given(seed=st.integers(0, 30), count=st.integers(1, 4))
def test_points_lie_inside(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    mask = ellipse(*(int(v) for v in rng.integers(20, 60, 2)), *(int(v) for v in rng.integers(2, 20, 2)))
    points = interior_points(mask, count)
    assert len(points) == count
    assert all(mask[int(y), int(x)] for x, y in points)


def test_a_mask_too_thin_for_an_inside_is_left_alone() -> None:
    image, _, _ = street(0)
    thin = np.zeros(SIZE, dtype=bool)
    thin[10:60, 40:43] = True
    [proposal] = GrabCut(BoundarySettings(), "cpu").refine(image, [(40, 10, 43, 60)], thin[None])
    assert proposal.score == 0
    assert np.array_equal(proposal.mask, thin)


def test_the_frame_is_no_border() -> None:
    mask = np.ones(SIZE, dtype=bool)
    assert not boundary_band(mask, 3).any()
    with pytest.raises(ValueError, match="needs a model"):
        BoundarySettings(kind="sam")
