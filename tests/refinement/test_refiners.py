"""Segment Anything behind the refiner interface: real classes, tiny configurations, random weights."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
import transformers

from instsynth_dagster.errors import CheckpointError, SettingsError
from instsynth_dagster.refinement.refiners import build_refiner, segment_anything
from instsynth_dagster.settings import BoundarySettings
from tests.refinement.test_boundary import street

BOXES = [(10, 12, 40, 50), (60, 10, 90, 60)]


def save_tiny_sam(folder):
    torch.manual_seed(0)
    vision = {
        "hidden_size": 32,
        "output_channels": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
        "mlp_dim": 32,
        "global_attn_indexes": [1],
        "window_size": 4,
        "num_pos_feats": 8,
    }
    prompt = {"hidden_size": 16, "image_size": 64, "patch_size": 8, "image_embedding_size": 8}
    decoder = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 16}
    decoder |= {"iou_head_hidden_dim": 16, "iou_head_depth": 2}
    config = transformers.SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    transformers.SamModel(config).save_pretrained(folder)
    sizes = {"longest_edge": 64}, {"height": 64, "width": 64}
    mask = {"longest_edge": 16}, {"height": 16, "width": 16}
    images = transformers.SamImageProcessor(size=sizes[0], pad_size=sizes[1], mask_size=mask[0], mask_pad_size=mask[1])
    transformers.SamProcessor(images).save_pretrained(folder)
    return folder


def save_tiny_sam2(folder):
    torch.manual_seed(0)
    backbone = {
        "hidden_size": 16,
        "num_attention_heads": 1,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 2, 2, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    vision = {
        "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone},
        "backbone_channel_list": [128, 64, 32, 16],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 32,
    }
    prompt = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    decoder = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32}
    decoder |= {"iou_head_hidden_dim": 16}
    config = transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    transformers.Sam2Model(config).save_pretrained(folder)
    images = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    transformers.Sam2Processor(images, target_size=64).save_pretrained(folder)
    return folder


def save_tiny_sam3(folder):
    torch.manual_seed(0)
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 112,
        "pretrain_image_size": 112,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": backbone,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    prompt = {"hidden_size": 32, "image_size": 112, "patch_size": 14}
    decoder = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "mlp_dim": 32}
    decoder |= {"iou_head_hidden_dim": 16}
    config = transformers.Sam3TrackerConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    transformers.Sam3TrackerModel(config).save_pretrained(folder)
    transformers.Sam3TrackerProcessor(sam3_images(), target_size=112).save_pretrained(folder)
    return folder


def sam3_images() -> transformers.Sam3ImageProcessor:
    return transformers.Sam3ImageProcessor(size={"height": 112, "width": 112}, mask_size={"height": 32, "width": 32})


def save_tiny_sam3_as_published(folder):
    """The tracker inside a video model, beside a detector that is not read, as on the hub."""
    save_tiny_sam3(folder)
    tracker = json.loads((folder / "config.json").read_text())
    tracker |= {"model_type": "sam3_tracker_video", "image_size": 112}
    config = {"model_type": "sam3_video", "tracker_config": tracker, "detector_config": {"model_type": "sam3"}}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = transformers.CLIPTokenizer.from_pretrained("checkpoints/mini-clip")
    transformers.Sam3VideoProcessor(
        sam3_images(), transformers.Sam2VideoVideoProcessor(), tokenizer, target_size=112
    ).save_pretrained(folder)
    return folder


def check(refiner) -> None:
    """Every box gets a mask of the image's size, and none depends on its neighbours."""
    image, _, coarse = street(0)
    masks = np.array([coarse == 26000, coarse == 24256])
    together = refiner.refine(image, BOXES, masks)
    assert [proposal.mask.shape for proposal in together] == [image.shape[:2]] * 2
    assert all(proposal.mask.dtype == bool and np.isfinite(proposal.score) for proposal in together)
    [alone] = refiner.refine(image, BOXES[1:], masks[1:])
    assert (alone.mask == together[1].mask).mean() > 0.999
    assert alone.score == pytest.approx(together[1].score, abs=1e-4)
    assert refiner.refine(image, [], masks[:0]) == []


@pytest.mark.slow
@pytest.mark.parametrize("save", [save_tiny_sam, save_tiny_sam2, save_tiny_sam3, save_tiny_sam3_as_published])
@pytest.mark.parametrize("points", [0, 2])
def test_sam_of_transformers(save, points, tmp_path) -> None:
    settings = BoundarySettings(kind="sam", model=str(save(tmp_path)), points=points)
    check(build_refiner(settings, "cpu"))


def counted(owner, name: str) -> list[int]:
    """Counts calls of a method from now on."""
    calls, original = [], getattr(owner, name)

    def call(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    setattr(owner, name, call)
    return calls


@pytest.mark.slow
def test_an_image_is_embedded_once_and_its_boxes_go_together(tmp_path, tiny_vit) -> None:
    image, _, coarse = street(0)
    masks = np.array([coarse == 26000, coarse == 24256])
    library = build_refiner(BoundarySettings(kind="sam", model=str(save_tiny_sam(tmp_path))), "cpu")
    digest = hashlib.sha256(tiny_vit.read_bytes()).hexdigest()
    given = BoundarySettings(kind="segment_anything", checkpoint=tiny_vit, sha256=digest)
    authors = build_refiner(given, "cpu")
    for refiner, model, embeds, decodes in (
        (library, library._model, "get_image_embeddings", "forward"),
        (authors, authors._predictor, "set_image", "predict_torch"),
    ):
        embedded, decoded = counted(model, embeds), counted(model, decodes)
        assert len(refiner.refine(image, BOXES, masks)) == 2
        assert len(embedded) == len(decoded) == 1


@pytest.mark.slow
def test_a_published_sam_3_is_its_tracker(tmp_path) -> None:
    image, _, coarse = street(0)
    masks = np.array([coarse == 26000, coarse == 24256])
    answers = []
    for name, save in (("tracker", save_tiny_sam3), ("video", save_tiny_sam3_as_published)):
        (tmp_path / name).mkdir()
        refiner = build_refiner(BoundarySettings(kind="sam", model=str(save(tmp_path / name))), "cpu")
        answers.append(refiner.refine(image, BOXES, masks))
    for ours, theirs in zip(*answers, strict=True):
        assert np.array_equal(ours.mask, theirs.mask)
        assert ours.score == theirs.score


def test_a_missing_sam_is_one_clear_line(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"refinement\.boundary\.model") as caught:
        build_refiner(BoundarySettings(kind="sam", model=str(tmp_path / "empty")), "cpu")
    assert "\n" not in str(caught.value)


@pytest.fixture
def tiny_vit(monkeypatch, tmp_path):
    """A checkpoint of the authors' package with a two-layer encoder under the name vit_b."""
    package = pytest.importorskip("segment_anything")
    from segment_anything.build_sam import _build_sam

    def build(checkpoint=None):
        return _build_sam(16, 2, 2, [1], checkpoint)

    monkeypatch.setitem(package.sam_model_registry, "vit_b", build)
    torch.manual_seed(0)
    path = tmp_path / "tiny.pth"
    torch.save(build().state_dict(), path)
    return path


@pytest.mark.slow
def test_segment_anything_of_its_authors(tiny_vit) -> None:
    digest = hashlib.sha256(tiny_vit.read_bytes()).hexdigest()
    settings = BoundarySettings(kind="segment_anything", checkpoint=tiny_vit, sha256=digest)
    check(build_refiner(settings, "cpu"))


def test_a_checkpoint_with_another_digest_is_never_read(tiny_vit) -> None:
    with pytest.raises(CheckpointError, match="its sha256 is not"):
        build_refiner(BoundarySettings(kind="segment_anything", checkpoint=tiny_vit, sha256="0" * 64), "cpu")


def test_what_is_missing_is_named(tiny_vit, tmp_path, monkeypatch) -> None:
    def settings(checkpoint) -> BoundarySettings:
        digest = hashlib.sha256(b"nothing").hexdigest()
        return BoundarySettings(kind="segment_anything", checkpoint=checkpoint, sha256=digest)

    with pytest.raises(CheckpointError, match=r"none\.pth is not a file"):
        build_refiner(settings(tmp_path / "none.pth"), "cpu")
    tiny_vit.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="not a vit_b checkpoint"):
        build_refiner(settings(tiny_vit), "cpu")
    monkeypatch.setattr(segment_anything, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="pip install segment-anything"):
        build_refiner(settings(tiny_vit), "cpu")
    with pytest.raises(ValueError, match="needs a checkpoint and its sha256"):
        BoundarySettings(kind="segment_anything", checkpoint=tiny_vit)
