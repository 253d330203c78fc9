"""The real Inception network of torch-fidelity, with random weights."""

from __future__ import annotations

import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.evaluation.metrics.inception import Inception
from instsynth_dagster.models.feature_cache import FeatureCache


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({}, path)
    with mock.patch.object(torch.nn.Module, "load_state_dict"):
        network = FeatureExtractorInceptionV3("inception", ["2048"], str(path))
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.slow
def test_features_are_the_pooled_layer_of_the_network(weights, tmp_path):
    inception = Inception(weights, FeatureCache(tmp_path / "f.sqlite"))
    images = [np.random.default_rng(n).integers(0, 256, (40 + n, 50, 3), dtype=np.uint8) for n in range(3)]
    features = inception.images(images)
    assert features.shape == (3, 2048)
    assert np.isfinite(features).all()
    assert (features[0] != features[1]).any()
    np.testing.assert_array_equal(features[2:], inception.images(images[2:]))


def test_weights_that_cannot_be_read_are_one_line_with_a_way_out(tmp_path):
    class Surprise:
        def __reduce__(self):
            return (print, ("unpickled",))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Surprise()))
    with pytest.raises(CheckpointError, match=r"judge\.fid_features: .*evil\.pth .*fid_features: clip") as caught:
        Inception(path, FeatureCache(tmp_path / "f.sqlite"))
    assert "\n" not in str(caught.value)
