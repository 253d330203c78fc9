"""Pretrains the demo's vision models one after the other: scenes, mini-resnet, and the three segmenters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

import numpy as np

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.demo.pretraining.backbone import RECIPE, measure_accuracy, train_backbone
from instsynth_dagster.demo.pretraining.cards import is_complete, write_card
from instsynth_dagster.demo.pretraining.detector import (
    fastinst_recipe,
    mask2former_recipe,
    oneformer_recipe,
    train_detector,
)
from instsynth_dagster.demo.pretraining.scenes import SCENES, BoxScenes, box_ap50, instance_crops, render_scenes
from instsynth_dagster.segmenters.contract import Progress
from instsynth_dagster.settings import SegmenterSettings

Bars = Callable[[str, int], AbstractContextManager[Progress]]
"""Opens a progress bar: bars(title, total)."""

HELD_OUT, CROPS = 100, 12_000
CROP_SIDE = 96


def pretrain_vision(build: Path, checkpoints: Path, bars: Bars, *, steps: int | None = None) -> None:
    """Make mini-mask2former, mini-fastinst and mini-oneformer from nothing, model cards included.

    mini-resnet, the backbone that they grow from, stays in `build`: it is not needed any more once they exist.

    Args:
        build: rendered scenes, mini-resnet and unfinished trainings; the same call goes on from there.
        checkpoints: holds one `from_pretrained` folder per model, mini-clip (for its tokenizer) among them.
    """
    detectors = ("mini-mask2former", "mini-fastinst", "mini-oneformer")
    if all(is_complete(checkpoints / name) for name in detectors):
        return
    store = Store(build)
    with bars("rendering scenes", SCENES) as progress:
        render_scenes(store, SCENES, progress=progress)
    training, held_out = BoxScenes(store, 0, SCENES - HELD_OUT), BoxScenes(store, SCENES - HELD_OUT)
    backbone = build / "mini-resnet" / "checkpoint"
    if not is_complete(backbone):
        make_backbone(training, held_out, backbone, build / "mini-resnet", bars)
    given = {} if steps is None else {"steps": steps}
    # FastInst and OneFormer grow from the backbone that already looks for objects
    mask2former = checkpoints / "mini-mask2former"
    recipes = (
        mask2former_recipe(backbone, **given),
        fastinst_recipe(mask2former, **given),
        oneformer_recipe(mask2former, checkpoints / "mini-clip", **given),
    )
    for name, recipe in zip(detectors, recipes, strict=True):
        if not is_complete(checkpoints / name):
            make_detector(name, training, held_out, recipe, checkpoints, build, bars)


def make_backbone(training: BoxScenes, held_out: BoxScenes, out: Path, scratch: Path, bars: Bars) -> None:
    """Train mini-resnet on the crops of scenes and write its card."""
    crops, names = zip(*islice(instance_crops(training, CROP_SIDE), CROPS), strict=True)
    with bars("training mini-resnet", RECIPE.steps) as progress:
        result = train_backbone(np.stack(crops), names, out=out, scratch=scratch, recipe=RECIPE, progress=progress)
    crops, names = zip(*instance_crops(held_out, CROP_SIDE), strict=True)
    accuracy = measure_accuracy(out, np.stack(crops), names)
    write_card(
        out,
        result,
        f"""# mini-resnet

A small ResNet (transformers `ResNetForImageClassification`) that names colour and class of an instance in a procedural
street ("red car"): an ImageNet in miniature, the backbone from which the demo's segmenters start.

- **Data**: crops around the labelled boxes of {len(training)} rendered scenes; other seeds than any demo city, no
  masks.
- **Training**: {RECIPE.steps} steps of {RECIPE.batch_size} collages (1, 4 or 16 crops each), AdamW, learning rate
  {RECIPE.learning_rate:g}, poly 0.9, {result.seconds / 60:.0f} minutes.
- **Measured** on {len(names)} crops of {len(held_out)} held-out scenes: class {accuracy["class"]:.1%}, class and colour
  together {accuracy["name"]:.1%}.
""",
    )


_ABOUT = {
    "mini-mask2former": """A small Mask2Former (transformers `Mask2FormerForUniversalSegmentation`)""",
    "mini-fastinst": """A small FastInst (this project's)""",
    "mini-oneformer": """A small OneFormer (transformers `OneFormerForUniversalSegmentation`)""",
}


_START = {
    "mini-mask2former": "mini-resnet",
    "mini-fastinst": "the backbone of mini-mask2former",
    "mini-oneformer": "the backbone and the pixel decoder of mini-mask2former, its three tasks in turn",
}


def make_detector(
    name: str,
    training: BoxScenes,
    held_out: BoxScenes,
    recipe: SegmenterSettings,
    checkpoints: Path,
    build: Path,
    bars: Bars,
) -> None:
    """Train a segmenter on the boxes of scenes and write its card."""
    out = checkpoints / name
    with bars(f"training {name}", recipe.steps) as progress:
        result = train_detector(training, recipe, out=out, scratch=build / name, progress=progress)
    ap50 = box_ap50(out, recipe, held_out)
    minutes = round(result.seconds / 60)
    start = _START[name]
    write_card(
        out,
        result,
        f"""# {name}

{_ABOUT[name]} that finds instances in a procedural street by their
boxes: an Objects365 in miniature, from which the demo starts. It has never seen an instance mask.

- **Data**: {len(training)} rendered scenes; other seeds than any demo city, rare classes made common. The target "mask"
  of an instance is its filled box.
- **Training**: from {start}, {recipe.steps} steps of {recipe.batch_size} crops
  {recipe.crop[0]}x{recipe.crop[1]}, AdamW, learning rate {recipe.learning_rate:g}, poly 0.9, {minutes} minutes.
- **Measured** on {len(held_out)} held-out scenes: AP50 {ap50:.3f} for the boxes (Cityscapes protocol, mean of
  classes).
""",
    )
