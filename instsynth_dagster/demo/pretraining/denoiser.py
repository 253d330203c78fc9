"""mini-generative: the denoising decoder on mini-gligen's features, which few-shot protocols start from.

It learns boxes of the base classes only. Truck, bus and train are erased from its scenes, so that they are novel when a
protocol says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.pretraining.cards import is_complete, write_card
from instsynth_dagster.demo.pretraining.detector import train_detector
from instsynth_dagster.demo.pretraining.scenes import SCENES, BoxScenes, box_ap50, render_scenes
from instsynth_dagster.few_shot.unannotated import Unannotated
from instsynth_dagster.settings import SegmenterSettings

NOVEL = ("truck", "bus", "train")
BASE = tuple(name for name in CITYSCAPES.classes if name not in NOVEL)
HELD_OUT = 60
ARCHITECTURE: dict[str, Any] = {
    "num_proposals": 60,
    "dim": 64,
    "stages": 2,
    "shared_stages": True,
    "heads": 4,
    "feedforward_dim": 256,
    "dynamic_dim": 16,
    "window": (128, 256),
    "cosine_scale": 20.0,
}


def generative_recipe(generator: Path, steps: int = 5000) -> SegmenterSettings:
    """How mini-generative is trained on the features of a Stable Diffusion folder."""
    return SegmenterSettings.model_validate(
        {
            "kind": "generative",
            "architecture": {
                "extractor": {"kind": "unet", "model": str(generator), "timestep": 0},
                **ARCHITECTURE,
                "views": 2,
            },
            "steps": steps,
            "batch_size": 4,
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "grad_clip": 1.0,
            "crop": (128, 256),
            "scale_range": (0.5, 1.5),
            "checkpoint_every": 200,
        }
    )


def pretrain_decoder(build: Path, checkpoints: Path, bars: Any, *, steps: int | None = None) -> None:
    """Make mini-generative from mini-gligen and the scenes of the vision models, model card included.

    Args:
        build: rendered scenes and the unfinished training; the same call goes on from there.
    """
    out = checkpoints / "mini-generative"
    if is_complete(out):
        return
    recipe = generative_recipe(checkpoints / "mini-gligen", **({} if steps is None else {"steps": steps}))
    store = Store(build)
    with bars("rendering scenes", SCENES) as progress:
        render_scenes(store, SCENES, progress=progress)
    scenes = BoxScenes(store)
    with bars("training mini-generative", recipe.steps) as progress:
        result = train_detector(
            Unannotated(scenes, NOVEL), recipe, classes=BASE, out=out, scratch=build / out.name, progress=progress
        )
    other = Store(build / "held_out_scenes")
    render_scenes(other, HELD_OUT, seed=1)
    ap50 = box_ap50(out, recipe, Unannotated(BoxScenes(other), NOVEL), BASE)
    write_card(
        out,
        result,
        f"""# mini-generative

The decoder of this project's generative segmenter (boxes denoised, dynamic masks) on the frozen features of
mini-gligen, whose weights it does not hold. It knows person, rider, car, motorcycle and bicycle by their boxes; it
has seen no instance mask, and neither boxes nor pixels of truck, bus and train.

- **Data**: {len(scenes)} rendered scenes; other seeds than any demo city. The "mask" of an instance is its filled
  box; the three other classes are erased.
- **Training**: from random weights, {recipe.steps} steps of {recipe.batch_size} crops
  {recipe.crop[0]}x{recipe.crop[1]}, two fixed crops of each scene, AdamW, learning rate
  {recipe.learning_rate:g}, poly 0.9, {result.seconds / 60:.0f} minutes.
- **Measured** on {HELD_OUT} scenes of another seed: AP50 {ap50:.3f} for the boxes of the five classes (Cityscapes
  protocol).
""",
    )
