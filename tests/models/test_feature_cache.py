"""Features by content."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from instsynth_dagster.models.feature_cache import FeatureCache


class CountingExtractor:
    """Mean colour of an image, and how many images it was shown."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images):
        assert len(images) == 16
        self.calls += 1
        return np.stack([image.mean(axis=(0, 1)) for image in images])


def pictures(values):
    return [np.full((4, 5, 3), value, np.uint8) for value in values]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 255), max_size=40).filter(len), min_size=1, max_size=4))
def test_every_image_gets_its_own_features_in_order(tmp_path_factory, requests):
    cache, extract = FeatureCache(tmp_path_factory.mktemp("cache") / "below" / "f.sqlite"), CountingExtractor()
    for values in requests:
        got = cache.features("mean", pictures(values), extract)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, np.repeat(np.float32(values)[:, None], 3, axis=1))


def test_what_is_known_is_not_computed_again_even_by_another_process(tmp_path):
    extract = CountingExtractor()
    FeatureCache(tmp_path / "f.sqlite").features("mean", pictures(range(20)), extract)
    assert extract.calls == 2
    FeatureCache(tmp_path / "f.sqlite").features("mean", pictures(range(20)), extract)
    assert extract.calls == 2
    FeatureCache(tmp_path / "f.sqlite").features("mean", pictures(range(21)), extract)
    assert extract.calls == 3
    FeatureCache(tmp_path / "f.sqlite").features("another model", pictures([3]), extract)
    assert extract.calls == 4


def test_images_of_equal_bytes_and_other_shape_are_told_apart(tmp_path):
    cache = FeatureCache(tmp_path / "f.sqlite")
    shapes = [np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)]
    got = cache.features("shape", shapes, lambda images: np.array([image.shape for image in images]))
    np.testing.assert_array_equal(got, [[4, 5, 3], [5, 4, 3]])
