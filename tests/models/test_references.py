"""What a params file writes where a model is wanted."""

from __future__ import annotations

import pytest

from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.graph.checkpoints import CheckpointContents
from instsynth_dagster.models.digests import verified
from instsynth_dagster.models.references import hub_reference
from instsynth_dagster.settings import RefinementSettings


@pytest.mark.parametrize("name", ["9" * 5000, "x/" + "y" * 300, "z" * 300 + "/model", "a\0b"])
def test_a_name_that_no_disk_can_hold_is_not_there(tmp_path, name):
    assert verified(name) is None
    features = {"kind": "segmenter", "model": name}
    assert CheckpointContents(tmp_path).of(RefinementSettings.model_validate({"features": features})) is None


def test_a_long_path_is_no_folder():
    with pytest.raises(CheckpointError, match="no such folder"):
        hub_reference("./" + "y" * 300)
