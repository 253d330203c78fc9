"""APF and APR: what they keep, free and relabel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from instsynth_dagster.refinement.prototypes import (
    Prototypes,
    area_weights,
    build_prototypes,
    filter_regions,
    relabel_free,
    unit,
)
from instsynth_dagster.refinement.support import from_table, to_table
from tests.refinement.fixture import CLASSES, mean_iou, prototypes, refined, scene


def test_the_fixture_regains_what_was_lost_and_beta_has_an_interior_optimum() -> None:
    scenes = [scene(seed) for seed in range(12)]
    raw = mean_iou([(given.labels, given.truth) for given in scenes])
    by_blend = [
        mean_iou([(refined(given, blend=blend), given.truth) for given in scenes]) for blend in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert raw == pytest.approx(0.61, abs=0.02)
    assert by_blend[2] >= 0.80
    assert max(by_blend[1:4]) > max(by_blend[0], by_blend[4]) + 0.002


def test_a_high_threshold_kills_true_regions() -> None:
    scenes = [scene(seed) for seed in range(6)]
    iou = {cut: mean_iou([(refined(s, min_cosine=cut), s.truth) for s in scenes]) for cut in (0.5, 0.95)}
    assert iou[0.5] > iou[0.95]


@pytest.mark.slow
@given(seed=st.integers(0, 50), low=st.floats(-1, 1), high=st.floats(-1, 1))
def test_the_filter_adds_nothing_and_is_monotone(seed: int, low: float, high: float) -> None:
    given_scene, known = scene(seed), prototypes()
    low, high = sorted((low, high))
    for index, name in enumerate(CLASSES, 1):
        mask = given_scene.labels == index
        kept, freed = filter_regions(given_scene.features, mask, known.classes[name], low)
        assert not (kept & freed).any()
        assert np.array_equal(kept | freed, mask)
        fewer, _ = filter_regions(given_scene.features, mask, known.classes[name], high)
        assert (fewer <= kept).all()


@given(seed=st.integers(0, 20), factor=st.floats(0.01, 100))
def test_the_scale_of_features_does_not_matter(seed: int, factor: float) -> None:
    given_scene, known = scene(seed), prototypes()
    mask = given_scene.labels == 1
    once = filter_regions(given_scene.features, mask, known.classes["a"], 0.5)
    again = filter_regions(factor * given_scene.features, mask, known.classes["a"], 0.5)
    assert np.array_equal(once[0], again[0])


def relabelled(given_scene, free, seeds, blend, **changes):
    options = {"blend": blend, "min_score": 0.0, "margin": 0.0} | changes
    return relabel_free(
        given_scene.features, free, seeds, given_scene.labels == 0, changes.pop("known", prototypes()), **options
    )


@given(seed=st.integers(0, 30), blend=st.floats(0, 1), margin=st.floats(0, 0.5))
def test_only_free_pixels_are_labelled_and_each_once(seed: int, blend: float, margin: float) -> None:
    given_scene = scene(seed)
    seeds = {name: given_scene.labels == index for index, name in enumerate(CLASSES, 1)}
    free = np.random.default_rng(seed).random(given_scene.labels.shape) < 0.3
    found = relabelled(given_scene, free, seeds, blend, margin=margin)
    total = sum(mask.astype(int) for mask in found.values())
    assert (total[~free] == 0).all()
    assert total.max() <= 1


def test_beta_one_ignores_the_image_and_no_seed_falls_back_to_it() -> None:
    given_scene = scene(3)
    free = np.ones(given_scene.labels.shape, dtype=bool)
    seeds = {name: given_scene.labels == index for index, name in enumerate(CLASSES, 1)}
    nothing = {name: np.zeros_like(free) for name in CLASSES}
    none = np.zeros_like(free)
    known = prototypes()
    options = {"min_score": 0.0, "margin": 0.0}

    def labels(of_seeds, behind, blend):
        return relabel_free(given_scene.features, free, of_seeds, behind, known, blend=blend, **options)

    globally = labels(seeds, given_scene.labels == 0, 1.0)
    for name, mask in labels(nothing, none, 0.0).items():
        assert np.array_equal(mask, globally[name])
    locally = labels(seeds, given_scene.labels == 0, 0.0)
    assert any(not np.array_equal(locally[name], globally[name]) for name in CLASSES)


def test_what_is_not_clear_goes_to_nobody() -> None:
    given_scene = scene(3)
    free = np.ones(given_scene.labels.shape, dtype=bool)
    seeds = {name: given_scene.labels == index for index, name in enumerate(CLASSES, 1)}
    assert not any(mask.any() for mask in relabelled(given_scene, free, seeds, 0.5, margin=3.0).values())
    assert not any(mask.any() for mask in relabelled(given_scene, free, seeds, 0.5, min_score=1.1).values())


def test_prototypes_weigh_pixels_and_thin_masks_count() -> None:
    features = np.zeros((2, 2, 3), np.float32)
    features[0, 0], features[0, 1] = (1, 0, 0), (0, 1, 0)
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4, :4] = True  # one whole cell
    mask[1, 4:] = True  # a thin line through the next
    found = build_prototypes([(features, {"car": mask}, np.ones_like(mask))])
    assert area_weights(mask, (2, 2))[0].tolist() == [1.0, 0.25]
    car, behind = np.array([1, 0.25, 0]) / 1.25, np.array([0.25, 0.25, 0])
    assert found.center.tolist() == pytest.approx(((car + behind) / 2).tolist())
    assert found.classes["car"].tolist() == pytest.approx(unit(car - behind).tolist())
    assert found.background.tolist() == pytest.approx(unit(behind - car).tolist())
    again = from_table(to_table(found))
    assert again.classes["car"].tolist() == found.classes["car"].tolist()
    assert np.array_equal(again.centred(features), found.centred(features))
    with pytest.raises(ValueError, match="at least one support image"):
        build_prototypes([])


def test_a_speck_follows_the_rest_of_its_instance() -> None:
    features = np.ones((4, 4, 2), np.float32)
    mask = np.zeros((16, 16), dtype=bool)
    mask[:8, :8] = True
    mask[15, 15] = True
    known = Prototypes({"car": unit(np.ones(2))}, unit(np.array([1.0, -1.0])))
    assert filter_regions(features, mask, known.classes["car"], 0.5)[0][15, 15]
    assert filter_regions(features, mask, -known.classes["car"], 0.5)[1][15, 15]
