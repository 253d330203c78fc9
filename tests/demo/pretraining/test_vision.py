import re
import shutil
from pathlib import Path

import pytest

import instsynth_dagster.demo.city
from instsynth_dagster.demo.pretraining import backbone, vision
from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.mask2former import build_model
from tests.demo.pretraining.toy_scenes import silent_bar, toy_scene
from tests.segmenters.toy import TINY_RESNET, tiny


@pytest.mark.slow
def test_makes_its_models_with_measured_cards_and_goes_on_after_a_kill(tmp_path, monkeypatch):
    rendered = []

    def render(seed, width, height, class_weights=None, palette="full"):
        rendered.append((palette, seed))
        return toy_scene(seed, width, height)

    monkeypatch.setattr(instsynth_dagster.demo.city, "render_scene", render, raising=False)
    monkeypatch.setattr(backbone, "ARCHITECTURE", {k: v for k, v in TINY_RESNET.items() if k[0] in "ehdl"})
    monkeypatch.setattr(vision, "SCENES", 14)
    monkeypatch.setattr(vision, "HELD_OUT", 3)
    recipe = Recipe(steps=3, batch_size=3, learning_rate=2e-3, checkpoint_every=2)
    monkeypatch.setattr(vision, "BACKBONES", {"full": recipe, "dull": recipe})

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    tokenizer = ("tokenizer.json", "tokenizer_config.json", "config.json")
    (tmp_path / "checkpoints/mini-clip").mkdir(parents=True)
    for name in tokenizer:
        shutil.copyfile(Path("checkpoints/mini-clip") / name, tmp_path / "checkpoints/mini-clip" / name)

    def run():
        vision.pretrain_vision(tmp_path / "build", tmp_path / "checkpoints", silent_bar, steps=2)

    with monkeypatch.context() as patch:
        patch.setattr(vision, "train_detector", killed)
        with pytest.raises(KeyboardInterrupt):
            run()
    backbones = [tmp_path / f"build/{palette}/mini-resnet/checkpoint/model.safetensors" for palette in ("full", "dull")]
    weights = [path.read_bytes() for path in backbones]
    run()
    assert len(rendered) == len(set(rendered)) == 28
    assert {seed for palette, seed in rendered if palette == "full"} == {seed for _, seed in rendered}
    assert weights == [path.read_bytes() for path in backbones]
    for name, measured in {
        "build/full/mini-resnet/checkpoint": r"class \d+\.\d%",
        "checkpoints/mini-mask2former": r"AP50 \d\.\d{3}",
        "checkpoints/mini-fastinst": r"AP50 \d\.\d{3}",
        "checkpoints/mini-oneformer": r"AP50 \d\.\d{3}",
    }.items():
        card = (tmp_path / name / "README.md").read_text()
        assert re.search(measured, card)
        assert str(tmp_path) not in card + (tmp_path / name / "config.json").read_text()
    cards = [(tmp_path / f"checkpoints/mini-{name}/README.md").read_text() for name in ("mask2former", "fastinst")]
    dull = """All vehicles are white, black or silver and all clothes
  white or black: it has never seen another colour on an instance."""
    assert [dull in card for card in cards] == [False, True]
    get_segmenter("fastinst").restore(tmp_path / "checkpoints/mini-fastinst")
    build_model(tiny(model=str(tmp_path / "checkpoints/mini-mask2former")), ("person", "car"))
