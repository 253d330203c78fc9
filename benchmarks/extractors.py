"""Are a generator's features worth anything? The same decoder, from nothing and for equal steps, on features of a
trained UNet, of the same UNet with random weights, and of a convolutional pyramid of about equal cost that learns too.

Each learns instances of all classes on the demo city's train cities and is scored on the val city.

    python benchmarks/extractors.py --steps 400 --seeds 0 1
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from cities import TRAIN, VAL, Cities

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.pretraining.denoiser import ARCHITECTURE, generative_recipe
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame
from instsynth_dagster.evaluation.metrics.model_costs import measure
from instsynth_dagster.segmenters.contract import get_segmenter

GENERATOR = Path("checkpoints/mini-gligen")
UNET: dict[str, Any] = {"kind": "unet", "model": str(GENERATOR), "timestep": 0}
EXTRACTORS: dict[str, dict[str, Any]] = {
    "trained": {"extractor": UNET},
    "random": {"extractor": UNET | {"random_weights": True}},
    "convolutions": {"extractor": {"kind": "conv", "widths": (96, 160, 224), "layers": 2}},
}


def run(name: str, seed: int, train: Cities, val: Cities, options: argparse.Namespace) -> dict[str, Any]:
    views = None if name == "convolutions" else options.views  # what learns sees nothing twice alike
    recipe = generative_recipe(GENERATOR, options.steps).model_copy(
        update={
            "architecture": {**EXTRACTORS[name], **ARCHITECTURE, "views": views},
            "backbone_lr_factor": 1.0,  # convolutions have everything to learn; the UNets are frozen
        }
    )
    segmenter = get_segmenter("generative")
    with tempfile.TemporaryDirectory() as scratch:
        before = time.process_time()
        fitted = segmenter.fit(
            train,
            recipe,
            classes=CITYSCAPES.classes,
            seed=seed,
            out=(options.keep or Path(scratch)) / f"{name}_{seed}",
            scratch=Path(scratch) / "state",
        )
        cpu = time.process_time() - before
        predictor: Any = segmenter.load(fitted.folder, recipe, labels=CITYSCAPES)
    scores = average_precision(
        [match_frame(ids, predictor.predict([image])[0], labels=CITYSCAPES) for image, ids in val.frames],
        classes=CITYSCAPES.classes,
    )
    cost = measure(predictor, val[0][0])
    return {
        "features": name,
        "seed": seed,
        "steps": options.steps,
        "AP": round(scores.ap, 4),
        "AP50": round(scores.ap50, 4),
        "loss": round(float(fitted.curve["loss"].tail(5).mean()), 3),
        "GMACs": round(cost.gmacs, 2) if cost else None,
        "CPU seconds of training": round(cpu),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--views", type=int, default=4, help="of each frame, for the frozen UNets")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", choices=EXTRACTORS, action="append", help="default: all three")
    parser.add_argument("--keep", type=Path, help="folder for the checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/demo_city"),
        help="made by `INSTSYNTH_PARAMS=profiles/generative.yaml make prepare`",
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train, val = Cities(options.data, TRAIN), Cities(options.data, VAL)
    for seed in options.seeds:
        for name in options.only or EXTRACTORS:
            print(json.dumps(run(name, seed, train, val, options)), flush=True)


if __name__ == "__main__":
    main()
