"""How good are MaskDiff's masks when box and class are true? Trained on the demo city's train cities by the recipe of
`profiles/generative.yaml`, without its detector and with boxes that are not jittered, as they are true. Scored on the
val city: mean IoU of every instance whose box is at least 8 pixels wide and high, one instance one vote. A third of the
train frames, scored alike, tells underfitting from overfitting. Under torchrun the processes share each batch.

python benchmarks/maskdiff.py
torchrun --standalone --nproc-per-node 2 benchmarks/maskdiff.py --frames 480 --steps 4400
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from cities import TRAIN, VAL, Cities

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.city import write_demo_city
from instsynth_dagster.few_shot.systems import MIN_SIDE
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.segmenters.maskdiff.segmenter import given_box_iou
from instsynth_dagster.segmenters.training.steps import is_first_process
from instsynth_dagster.settings import DemoCitySettings, SegmenterSettings

SIDES = (MIN_SIDE, 16, 24, 32, 48, 64, 100_000)


def recipe(options: argparse.Namespace) -> SegmenterSettings:
    values: dict[str, Any] = yaml.safe_load(options.profile.read_text())["segmenters"]["maskdiff"]
    values["architecture"].pop("detector")
    values["architecture"]["box_jitter"] = 0.0
    values["processes"] = int(os.environ.get("WORLD_SIZE", "1"))
    values["architecture"] |= {name: json.loads(value) for name, _, value in (s.partition("=") for s in options.set)}
    changed = {"steps": options.steps, "batch_size": options.batch, "learning_rate": options.learning_rate}
    return SegmenterSettings.model_validate(values | {name: value for name, value in changed.items() if value})


def train_cities(options: argparse.Namespace, folder: Path) -> Cities:
    if not options.frames:
        return Cities(options.data, TRAIN)
    for city in TRAIN:
        write_demo_city(folder, "train", city, DemoCitySettings(frames_per_city=options.frames))
    return Cities(folder, TRAIN)


def groups(scores: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Mean IoU by the narrower side of the box, pixels, and by class."""
    by_side = pd.cut(scores["side"], SIDES, right=False, labels=[f"{side}+" for side in SIDES[:-1]])
    return {
        name: scores.groupby(key, observed=True)["iou"].mean().round(3).to_dict()
        for name, key in (("side", by_side), ("class", scores["class_name"]))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="default: the profile's, as are the next two")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a value of `MaskDiffConfig`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the checkpoint")
    parser.add_argument("--profile", type=Path, default=Path("profiles/generative.yaml"))
    parser.add_argument("--frames", type=int, help="of each train city, drawn anew; default: those that are there")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/demo_city"),
        help="made by `INSTSYNTH_PARAMS=profiles/generative.yaml make prepare`",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings, segmenter = recipe(options), get_segmenter("maskdiff")
    val = Cities(options.data, VAL)
    with tempfile.TemporaryDirectory() as scratch:
        train = train_cities(options, Path(scratch) / "cities")
        before = time.process_time()
        fitted = segmenter.fit(
            train,
            settings,
            classes=CITYSCAPES.classes,
            seed=options.seed,
            out=options.keep or Path(scratch) / "checkpoint",
            scratch=Path(scratch) / "scratch",
        )
        cpu = time.process_time() - before
        if not is_first_process():
            return
        predictor: Any = segmenter.load(fitted.folder, settings, labels=CITYSCAPES)
    learnt, scores = (
        pd.concat(
            [
                given_box_iou(predictor, image, ids, MIN_SIDE, CITYSCAPES.classes, labels=CITYSCAPES)
                for image, ids in frames
            ]
        )
        for frames in (train.frames[:: len(TRAIN)], val.frames)
    )
    result = {"steps": settings.steps, "batch": settings.batch_size, "threads": options.threads}
    result |= {"processes": settings.processes, "seconds": round(fitted.seconds), "CPU seconds": round(cpu)}
    result |= {"instances": len(scores), "IoU": round(scores["iou"].mean(), 4)}
    result |= {"IoU, a third of the train frames": round(learnt["iou"].mean(), 4)}
    print(json.dumps(result | groups(scores), indent=1))


if __name__ == "__main__":
    main()
