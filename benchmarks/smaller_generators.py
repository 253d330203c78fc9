"""What do a smaller generator, and more denoising steps, change?

mini-generative learns the demo city. Then the generator below it is replaced, the decoder untouched: cut after the last
tap, without the middle block, without the innermost attention too, the latter two after feature distillation on the
train cities. Last, the decoder takes 1, 2 and 4 denoising steps, whose candidates are pooled; so does mini-generative
for boxes of scenes that it has not seen.

    python benchmarks/smaller_generators.py --steps 600 --distill 100
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from cities import TRAIN, VAL, Cities

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.demo.pretraining.denoiser import BASE, HELD_OUT, NOVEL
from instsynth_dagster.demo.pretraining.scenes import BoxScenes, render_scenes
from instsynth_dagster.evaluation.metrics.instance_ap import InstanceScores, average_precision, match_frame
from instsynth_dagster.evaluation.metrics.model_costs import measure
from instsynth_dagster.few_shot.unannotated import Unannotated
from instsynth_dagster.models.smaller_unets import feature_cosine
from instsynth_dagster.segmenters.contract import SegmentationDataset, get_segmenter
from instsynth_dagster.segmenters.generative.segmenter import GenerativeSegmenter
from instsynth_dagster.settings import SegmenterSettings

VARIANTS: dict[str, dict[str, Any]] = {
    "whole": {"truncate": False},
    "truncated": {},
    "no middle": {"remove": "middle"},
    "no innermost": {"remove": "innermost"},
}
SEEN = 8
"""Val frames on which features are compared."""
TURNS = 9
"""In which every generator is timed."""


class Bench:
    """A trained folder, and what can be made of it."""

    def __init__(self, folder: Path, recipe: SegmenterSettings, classes: Sequence[str], scratch: Path) -> None:
        self.segmenter = GenerativeSegmenter()
        self.folder, self.recipe, self.classes, self.scratch = folder, recipe, classes, scratch
        self.extractor = self.segmenter.restore(folder)[0].sizes.extractor.model_dump(exclude_unset=True)

    def changed(self, train: SegmentationDataset | None = None, **architecture: Any) -> Any:
        """A predictor with other values of `GenerativeConfig`; a smaller generator is distilled on `train`."""
        update = {"model": str(self.folder), "architecture": architecture}
        model: Any = self.segmenter.build(self.recipe.model_copy(update=update), self.classes, CITYSCAPES)
        if train is not None:
            scratch = Path(tempfile.mkdtemp(dir=self.scratch))  # no two students go on from one state
            self.segmenter.prepare(
                model, train, self.recipe, classes=self.classes, seed=0, scratch=scratch, device="cpu"
            )
        return self.segmenter.predictor(model.eval(), self.classes, self.recipe, CITYSCAPES, "cpu")


def score(predictor: Any, frames: SegmentationDataset, classes: Sequence[str]) -> InstanceScores:
    pairs = (frames[index] for index in range(len(frames)))
    return average_precision(
        [match_frame(ids, predictor.predict([image])[0], labels=CITYSCAPES) for image, ids in pairs], classes
    )


def trained(options: argparse.Namespace, recipe: SegmenterSettings, train: Cities, scratch: Path) -> Path:
    out = options.keep or scratch / "trained"
    if not (out / "config.json").exists():
        before = time.process_time()
        update = {"steps": options.steps, "architecture": {"views": options.views}}
        get_segmenter("generative").fit(
            train,
            recipe.model_copy(update=update),
            classes=CITYSCAPES.classes,
            seed=0,
            out=out,
            scratch=scratch / "state",
        )
        print(json.dumps({"steps": options.steps, "CPU seconds": round(time.process_time() - before)}), flush=True)
    return out


def compare_generators(bench: Bench, train: Cities, val: Cities, distill: int, turns: int) -> None:
    pixels = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image, _ in val.frames[:SEEN]]) / 127.5 - 1
    predictors, spent = {}, {}
    for name, values in VARIANTS.items():
        before = time.process_time()
        extractor = bench.extractor | {"distill_steps": distill} | values
        predictors[name] = bench.changed(train if "remove" in values else None, extractor=extractor)
        spent[name] = time.process_time() - before
    # in turns, as a machine's speed drifts
    image = val[0][0]
    costs: list[dict[str, Any]] = [{name: measure(p, image) for name, p in predictors.items()} for _ in range(turns)]
    for name, predictor in predictors.items():
        taps, whole = (predictors[other].model.extractor.taps for other in (name, "whole"))
        cost, scores = costs[0][name], score(predictor, val, CITYSCAPES.classes)
        result = {"generator": name, "parameters, M": round(cost.parameters, 2), "GMACs": round(cost.gmacs, 2)}
        result |= {"milliseconds": round(statistics.median(turn[name].milliseconds for turn in costs))}
        result |= {"cosine": round(feature_cosine(taps, whole, pixels), 4)}
        result |= {"AP": round(scores.ap, 4), "AP50": round(scores.ap50, 4), "CPU seconds": round(spent[name])}
        print(json.dumps(result), flush=True)


def compare_steps(bench: Bench, frames: SegmentationDataset, of: str, counts: Sequence[int]) -> None:
    for count in counts:
        scores = score(bench.changed(sample_steps=count), frames, bench.classes)
        result = {"denoising steps": count, f"AP, {of}": round(scores.ap, 4), f"AP50, {of}": round(scores.ap50, 4)}
        print(json.dumps(result), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="on the demo city")
    parser.add_argument("--views", type=int, default=4, help="of each train frame")
    parser.add_argument("--distill", type=int, default=100, help="steps of distillation")
    parser.add_argument("--denoising", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--keep", type=Path, help="folder of the trained decoder; made where it is missing")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--profile", type=Path, default=Path("profiles/generative.yaml"))
    parser.add_argument("--turns", type=int, default=TURNS, help="in which times are taken")
    parser.add_argument("--scenes", type=int, default=HELD_OUT, help="held out, for boxes")
    parser.add_argument("--build", type=Path, default=Path("build/pretraining"), help="for held-out scenes")
    parser.add_argument(
        "--data", type=Path, default=Path("data/demo_city"), help="made by `make prepare` of that profile"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    values = yaml.safe_load(options.profile.read_text())["segmenters"]["truncated"]
    recipe = SegmenterSettings.model_validate(values)
    train, val = Cities(options.data, TRAIN), Cities(options.data, VAL)
    store = Store(options.build / "held_out_scenes")
    render_scenes(store, options.scenes, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        masks = Bench(trained(options, recipe, train, scratch), recipe, CITYSCAPES.classes, scratch)
        boxes = Bench(Path(str(recipe.model)), recipe, BASE, scratch)
        compare_generators(masks, train, val, options.distill, options.turns)
        compare_steps(masks, val, "masks", options.denoising)
        compare_steps(boxes, Unannotated(BoxScenes(store), NOVEL), "boxes", options.denoising)


if __name__ == "__main__":
    main()
