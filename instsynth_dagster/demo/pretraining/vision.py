"""Pretrains the demo's vision models one after the other: scenes, mini-resnet, and the three segmenters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.demo.city.palette import palette_colors
from instsynth_dagster.demo.pretraining.backbone import RECIPE, measure_accuracy, train_backbone
from instsynth_dagster.demo.pretraining.cards import is_complete, write_card
from instsynth_dagster.demo.pretraining.detector import (
    fastinst_recipe,
    mask2former_recipe,
    oneformer_recipe,
    train_detector,
)
from instsynth_dagster.demo.pretraining.recipe import Recipe
from instsynth_dagster.demo.pretraining.scenes import SCENES, BoxScenes, box_ap50, instance_crops, render_scenes
from instsynth_dagster.segmenters.contract import Progress
from instsynth_dagster.settings import SegmenterSettings

Bars = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a progress bar: bars(title, total)."""

HELD_OUT, CROPS = 100, 12_000
CROP_SIDE = 96
BACKBONES = {"full": RECIPE, "dull": replace(RECIPE, steps=1500)}
"""How mini-resnet is trained on the scenes of each palette; three colours are told apart sooner than seven."""


def pretrain_vision(build: Path, checkpoints: Path, bars: Bars, *, steps: int | None = None) -> None:
    """Make mini-mask2former, mini-fastinst and mini-oneformer from nothing, model cards included.

    mini-fastinst learns from scenes in white, black and silver only, so that colours are something that the data set
    of a demo can lack; the two others learn from scenes of every colour.

    Args:
        build: rendered scenes, a backbone for each palette and unfinished trainings; the same call goes on from there.
            The backbones are not needed any more once the three models exist.
        checkpoints: holds one `from_pretrained` folder per model, mini-clip (for its tokenizer) among them.
    """
    detectors = ("mini-mask2former", "mini-fastinst", "mini-oneformer")
    if all(is_complete(checkpoints / name) for name in detectors):
        return
    given = {} if steps is None else {"steps": steps}
    full, dull = (_scenes_and_backbone(build / palette, palette, bars) for palette in ("full", "dull"))
    # OneFormer grows from the backbone that already looks for objects
    mask2former = checkpoints / "mini-mask2former"
    jobs = (
        (full, mask2former_recipe(full.backbone, **given)),
        (dull, fastinst_recipe(dull.backbone, **given)),
        (full, oneformer_recipe(mask2former, checkpoints / "mini-clip", **given)),
    )
    for name, (scenes, recipe) in zip(detectors, jobs, strict=True):
        if not is_complete(checkpoints / name):
            make_detector(name, scenes, recipe, checkpoints, build, bars)


class PaletteScenes(NamedTuple):
    """Scenes of one palette of the demo city, and the folder of the backbone that knows their instances by name."""

    palette: str
    training: BoxScenes
    held_out: BoxScenes
    backbone: Path


def _scenes_and_backbone(build: Path, palette: str, bars: Bars) -> PaletteScenes:
    store = Store(build)
    with bars(f"rendering scenes ({palette})", SCENES) as progress:
        render_scenes(store, SCENES, palette=palette, progress=progress)
    backbone = build / "mini-resnet" / "checkpoint"
    training, held_out = BoxScenes(store, 0, SCENES - HELD_OUT), BoxScenes(store, SCENES - HELD_OUT)
    scenes = PaletteScenes(palette, training, held_out, backbone)
    if not is_complete(backbone):
        make_backbone(scenes, BACKBONES[palette], build / "mini-resnet", bars)
    return scenes


def make_backbone(scenes: PaletteScenes, recipe: Recipe, scratch: Path, bars: Bars) -> None:
    """Train mini-resnet on the crops of scenes and write its card."""
    out = scenes.backbone
    crops, names = zip(*islice(instance_crops(scenes.training, CROP_SIDE), CROPS), strict=True)
    with bars("training mini-resnet", recipe.steps) as progress:
        result = train_backbone(np.stack(crops), names, out=out, scratch=scratch, recipe=recipe, progress=progress)
    crops, names = zip(*instance_crops(scenes.held_out, CROP_SIDE), strict=True)
    accuracy = measure_accuracy(out, np.stack(crops), names)
    write_card(
        out,
        result,
        f"""# mini-resnet

A small ResNet (transformers `ResNetForImageClassification`) that names colour and class of an instance in a procedural
street ("red car"): an ImageNet in miniature, the backbone from which the demo's segmenters start.

- **Data**: crops around the labelled boxes of {len(scenes.training)} rendered scenes; other seeds than any demo city,
  no masks.
- **Training**: {recipe.steps} steps of {recipe.batch_size} collages (1, 4 or 16 crops each), AdamW, learning rate
  {recipe.learning_rate:g}, poly 0.9, {result.seconds / 60:.0f} minutes.
- **Measured** on {len(names)} crops of {len(scenes.held_out)} held-out scenes: class {accuracy["class"]:.1%}, class
  and colour together {accuracy["name"]:.1%}.
""",
    )


_ABOUT = {
    "mini-mask2former": """A small Mask2Former (transformers `Mask2FormerForUniversalSegmentation`)""",
    "mini-fastinst": """A small FastInst (this project's)""",
    "mini-oneformer": """A small OneFormer (transformers `OneFormerForUniversalSegmentation`)""",
}


_START = {
    "mini-mask2former": "mini-resnet",
    "mini-fastinst": "a mini-resnet of the same scenes",
    "mini-oneformer": "the backbone and the pixel decoder of mini-mask2former, its three tasks in turn",
}


def make_detector(
    name: str,
    scenes: PaletteScenes,
    recipe: SegmenterSettings,
    checkpoints: Path,
    build: Path,
    bars: Bars,
) -> None:
    """Train a segmenter on the boxes of scenes and write its card."""
    out = checkpoints / name
    with bars(f"training {name}", recipe.steps) as progress:
        result = train_detector(scenes.training, recipe, out=out, scratch=build / name, progress=progress)
    ap50 = box_ap50(out, recipe, scenes.held_out)
    minutes = round(result.seconds / 60)
    start = _START[name]
    write_card(
        out,
        result,
        f"""# {name}

{_ABOUT[name]} that finds instances in a procedural street by their
boxes: an Objects365 in miniature, from which the demo starts. It has never seen an instance mask.

- **Data**: {len(scenes.training)} rendered scenes; other seeds than any demo city, rare classes made common. The target
  "mask" of an instance is its filled box.{_colors_seen(scenes.palette)}
- **Training**: from {start}, {recipe.steps} steps of {recipe.batch_size} crops
  {recipe.crop[0]}x{recipe.crop[1]}, AdamW, learning rate {recipe.learning_rate:g}, poly 0.9, {minutes} minutes.
- **Measured** on {len(scenes.held_out)} held-out scenes: AP50 {ap50:.3f} for the boxes (Cityscapes protocol, mean of
  classes).
""",
    )


def _colors_seen(palette: str) -> str:
    """A sentence for a model card on the colours that a palette lacks; "" where it lacks none."""
    if palette_colors(palette) == palette_colors("full"):
        return ""
    vehicles, clothes = (" or ".join([", ".join(names[:-1]), names[-1]]) for names in palette_colors(palette))
    return f""" All vehicles are {vehicles} and all clothes
  {clothes}: it has never seen another colour on an instance."""
