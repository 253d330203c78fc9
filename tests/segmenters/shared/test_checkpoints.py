"""Configurations of checkpoints."""

from __future__ import annotations

import pytest

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import SettingsError
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.maskdiff.config import MaskDiffConfig
from instsynth_dagster.segmenters.shared.checkpoints import for_inference
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


def test_a_segmenter_inside_is_loaded_with_the_inference_values_of_the_settings() -> None:
    learnt = {"kind": "generative", "steps": 2, "architecture": {"dim": 64}}
    applied = {"max_detections": 7, "architecture": {"nms": 0.6}}
    given = {"samples": 2, "detector": {"kind": "generative", **applied}}
    recipe = SegmenterSettings.model_validate({"kind": "maskdiff", "architecture": given})
    trained = MaskDiffConfig.model_validate({"classes": ["car"], "region": 32, "detector": learnt})
    loaded = for_inference(trained, recipe)
    whole = learnt | applied | {"architecture": {"dim": 64, "nms": 0.6}}
    assert loaded == MaskDiffConfig.model_validate({"classes": ["car"], "region": 32, "samples": 2, "detector": whole})
