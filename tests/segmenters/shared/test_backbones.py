"""Backbones by name: what a folder of each family brings, and what every segmenter makes of it."""

from __future__ import annotations

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.errors import CheckpointError
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.shared.backbones import NEW_NORMS, backbone_description, build_backbone, load_backbone
from tests.segmenters.test_contract import TINY
from tests.segmenters.toy import TINY_RESNET, ToyDataset, tiny

CLASSIFIERS = {
    "resnet": lambda: transformers.ResNetForImageClassification(transformers.AutoConfig.for_model(**TINY_RESNET)),
    "swin": lambda: transformers.SwinForImageClassification(
        transformers.SwinConfig(
            image_size=96, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=12
        )
    ),
    "convnext": lambda: transformers.ConvNextForImageClassification(
        transformers.ConvNextConfig(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1])
    ),
}


@pytest.fixture(scope="module", params=CLASSIFIERS)
def classifier(request, tmp_path_factory):
    """The folder of a classifier of each family, as the hub holds them."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    CLASSIFIERS[request.param]().save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_every_weight_is_the_classifiers_but_the_norms_that_it_has_not(classifier) -> None:
    theirs = load_file(classifier / "model.safetensors").values()  # by value: the library renames some
    ours = load_backbone(str(classifier)).state_dict()
    for name, value in ours.items():
        if name.startswith(NEW_NORMS):
            assert torch.equal(value, torch.full_like(value, float(name.endswith("weight"))))
        else:
            assert any(value.shape == other.shape and torch.equal(value, other) for other in theirs), name


@pytest.mark.slow
def test_a_backbone_is_built_again_from_what_describes_it(classifier) -> None:
    backbone = load_backbone(str(classifier)).eval()
    again = build_backbone(backbone_description(backbone)).eval()
    again.load_state_dict(backbone.state_dict())
    pixels = torch.randn(1, 3, 64, 96)
    for ours, theirs in zip(backbone(pixels).feature_maps, again(pixels).feature_maps, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fastinst", "mask2former", "oneformer"])
def test_a_segmenter_learns_on_it(kind, classifier, tmp_path) -> None:
    given = TINY[kind]
    architecture = {key: value for key, value in given["architecture"].items() if key != "backbone_config"}
    changes = given | {"architecture": architecture, "backbone": str(classifier), "crop": (72, 104)}
    recipe = tiny(kind=kind, steps=1, gradient_checkpointing=True, **changes)
    segmenter = get_segmenter(kind)
    where = {"out": tmp_path / "checkpoint", "scratch": tmp_path / "scratch"}
    result = segmenter.fit(ToyDataset(), recipe, classes=("person", "car"), seed=0, **where)
    assert result.curve["loss"].notna().all()
    assert len(segmenter.load(result.folder, recipe, labels=CITYSCAPES).predict([ToyDataset()[0][0]])) == 1


@pytest.mark.slow
def test_a_folder_that_lacks_a_weight_is_named(classifier) -> None:
    file = classifier / "model.safetensors"
    weights = load_file(file)
    lost = next(name for name in sorted(weights) if name.endswith("weight") and "classifier" not in name)
    kept = {name: value for name, value in weights.items() if name != lost}
    save_file(kept, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lack"):
        load_backbone(str(classifier))
    save_file(weights, file, metadata={"format": "pt"})
