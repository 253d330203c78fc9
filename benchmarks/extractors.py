"""Are a generator's features worth anything? The same decoder, for equal steps, on features of a trained UNet, of the
same UNet with random weights, and of a convolutional pyramid of about equal cost.

Each decoder learns boxes of the base classes on rendered scenes and is scored on scenes of another seed; then it learns
the masks of the demo city's train cities (all classes) and is scored on the val city.

    python benchmarks/extractors.py --steps 2600 --tune 600
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instsynth_dagster.cityscapes import CLASSES, LABEL_BY_NAME, list_frames, read_frame
from instsynth_dagster.evaluation.costs import measure
from instsynth_dagster.evaluation.instance_ap import average_precision, match_frame
from instsynth_dagster.few_shot.unannotated import Unannotated
from instsynth_dagster.pretraining.denoiser import ARCHITECTURE, BASE, HELD_OUT, NOVEL, generative_recipe
from instsynth_dagster.pretraining.scenes import SCENES, BoxScenes, box_ap50, render_scenes
from instsynth_dagster.segmenters.base import get_segmenter
from instsynth_dagster.settings import SegmenterSettings
from instsynth_dagster.store import Store

GENERATOR = Path("checkpoints/mini-sd-inpaint")
EXTRACTORS: dict[str, dict[str, Any]] = {
    "trained UNet": {"kind": "unet", "model": str(GENERATOR)},
    "random UNet": {"kind": "unet", "model": str(GENERATOR), "random_weights": True},
    "convolutions": {"kind": "conv", "widths": (96, 160, 224), "layers": 2},
}
TRAIN, VAL = ("alderford", "brackwater", "cinderhill"), ("dunmere",)


class Frames:
    """`SegmentationDataset` of whole cities, in memory."""

    def __init__(self, root: Path, cities: tuple[str, ...]) -> None:
        self.items = [read_frame(frame) for city in cities for frame in list_frames(root, city)]
        self.is_synthetic = np.zeros(len(self.items), dtype=bool)
        labels = [LABEL_BY_NAME[name].id for name in CLASSES]
        self.classes_in = np.array([[(ids // 1000 == label).any() for label in labels] for _, ids in self.items])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.items[index]


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    folder = options.build / "extractors" / name.replace(" ", "_")
    recipe = generative_recipe(GENERATOR, options.steps).model_copy(
        update={
            "architecture": {"extractor": EXTRACTORS[name], **ARCHITECTURE},
            "backbone_lr_factor": 1.0,  # convolutions have everything to learn; the UNets are frozen
        }
    )
    segmenter = get_segmenter("generative")
    scenes = Unannotated(BoxScenes(Store(options.build)), NOVEL)
    first = segmenter.fit(scenes, recipe, classes=BASE, seed=0, out=folder / "boxes", scratch=folder / "scratch")
    unseen = Unannotated(BoxScenes(Store(options.build / "held_out_scenes")), NOVEL)
    boxes = box_ap50(first.folder, recipe, unseen, BASE)
    tune = SegmenterSettings.model_validate(
        recipe.model_dump(exclude_unset=True)
        | {
            "model": str(first.folder),
            "architecture": {},
            "steps": options.tune,
            "learning_rate": 5e-4,
            "scale_range": (0.75, 1.5),
        }
    )
    train, val = Frames(options.data, TRAIN), Frames(options.data, VAL)
    second = segmenter.fit(train, tune, classes=CLASSES, seed=0, out=folder / "masks", scratch=folder / "scratch2")
    predictor = segmenter.load(second.folder, tune)
    scores = average_precision([match_frame(ids, predictor.predict([image])[0]) for image, ids in val.items])
    cost = measure(predictor, val[0][0])
    return {
        "features": name,
        "box AP50, scenes": round(boxes, 4),
        "AP, demo city": round(scores.ap, 4),
        "AP50, demo city": round(scores.ap50, 4),
        "GMACs": round(cost.gmacs, 2) if cost else None,
        "seconds": round(first.seconds + second.seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2600, help="on boxes of scenes")
    parser.add_argument("--tune", type=int, default=600, help="on the demo city")
    parser.add_argument("--only", choices=EXTRACTORS, action="append", help="default: all three")
    parser.add_argument("--build", type=Path, default=Path("build/pretraining"))
    parser.add_argument("--data", type=Path, default=Path("data/demo_city"), help="made by `make prepare`")
    options = parser.parse_args()
    torch.set_num_threads(min(torch.get_num_threads(), 2))
    render_scenes(Store(options.build), SCENES)
    render_scenes(Store(options.build / "held_out_scenes"), HELD_OUT, seed=1)
    for name in options.only or EXTRACTORS:
        print(json.dumps(run(name, options)), flush=True)


if __name__ == "__main__":
    main()
