import pandas as pd
import pytest
from safetensors.torch import load_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.pretraining.detector import MASK2FORMER, mask2former_recipe, train_detector
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.mask2former import build_model
from tests.segmenters.toy import TINY_RESNET, ToyDataset, tiny


@pytest.mark.slow
def test_ships_a_half_precision_model_that_a_segmenter_starts_from(tmp_path):
    result = train_detector(ToyDataset(), tiny(), out=tmp_path / "mini", scratch=tmp_path / "scratch")
    weights = load_file(tmp_path / "mini" / "model.safetensors")
    assert {str(value.dtype) for value in weights.values() if value.is_floating_point()} == {"torch.float16"}
    model = build_model(tiny(model=str(tmp_path / "mini")), CITYSCAPES.classes)
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}
    name = "class_predictor.weight"
    assert model.state_dict()[name].half().equal(weights[name])
    segmenter, image = get_segmenter("mask2former"), ToyDataset()[0][0]
    (table,) = segmenter.load(result.folder, tiny(), labels=CITYSCAPES).predict([image])
    (full,) = segmenter.load(tmp_path / "scratch" / "float32", tiny(), labels=CITYSCAPES).predict([image])
    assert isinstance(table, pd.DataFrame)
    assert abs(table["score"].max() - full["score"].max()) < 0.02


def test_shipped_network_fits_its_budget(tmp_path):
    from instsynth_dagster.demo.pretraining import backbone

    architecture = MASK2FORMER | {"backbone_config": TINY_RESNET | backbone.ARCHITECTURE}
    model = build_model(tiny(architecture=architecture), CITYSCAPES.classes)
    assert 2 * sum(p.numel() for p in model.parameters()) <= 6 * 2**20
    assert mask2former_recipe(tmp_path).backbone == str(tmp_path)
