"""Configurations of checkpoints."""

from __future__ import annotations

import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.settings import SegmenterSettings
from tests.fuzz.tiny_checkpoints import LOADERS


@pytest.mark.parametrize(
    ("kind", "name", "value"), [("maskdiff", "samples", 2), ("generative", "nms", 0.6), ("siseg", "min_area", 5)]
)
def test_what_only_inference_reads_is_that_of_the_settings(tmp_path, kind, name, value) -> None:
    folder, segmenter = LOADERS[kind].save(tmp_path), get_segmenter(kind)

    def loaded(**architecture):
        recipe = SegmenterSettings.model_validate({"kind": kind, "architecture": architecture})
        return segmenter.load(folder, recipe, labels=CITYSCAPES).model.sizes

    trained = loaded()
    assert getattr(trained, name) != value
    assert loaded(classes=["bus"], **{name: value}) == trained.model_copy(update={name: value})
    with pytest.raises(SettingsError, match=rf"segmenters\.architecture\.{name}: "):
        loaded(**{name: -1})
