"""What do edges of the source bring on thin instances? Held-out crops of the demo city, repainted with and without.

    python -m instsynth_dagster.demo.pretraining --only generative    # makes mini-controlnet where it is missing
    python benchmarks/structure.py --sheet structure.jpg

Columns: the margin of mini-clip for the right class, and how often it names it, instances cut out; sharpness over the
source's; "edges kept", the F-score of Canny edges inside the mask against the source's, a pixel apart at most; and
"outline found", the share of the mask's outline where the picture as painted, before it is pasted into the mask, has an
edge.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_jpeg, resize_image
from instsynth_dagster.demo.city.palette import caption, draw_attributes
from instsynth_dagster.demo.pretraining.corpus import Corpus, CorpusRecipe, build_corpora
from instsynth_dagster.evaluation.report.gallery import contact_sheet
from instsynth_dagster.models.clip import Clip
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.crops import focus
from instsynth_dagster.synthesis.gates import class_margin, sharpness
from instsynth_dagster.synthesis.generators import load_generator

ROOT = Path(__file__).parents[1]
THIN = ("bicycle", "motorcycle", "rider")
SIDE = 96
_BATCH = 8
_NEAR = np.ones((3, 3), np.uint8)


def crops_of(folder: Path, classes: Sequence[str], per_class: int) -> Corpus:
    """The first held-out crops of each class; drawn into `folder` where it is empty."""
    recipe = CorpusRecipe(per_class=25, sides=(SIDE,), seed=1)
    corpus = build_corpora(folder, recipe, progress=lambda done, total: None)[SIDE]
    names = corpus.table["class_name"]
    return corpus.take(np.concatenate([np.flatnonzero(names == name)[:per_class] for name in classes]))


def caption_of(class_name: str, number: int) -> str:
    """A prompt of the class with a colour by chance."""
    return caption(draw_attributes(np.random.default_rng(content_seed("bench", number)), class_name))


def painted(corpus: Corpus, settings: dict[str, Any], prompts: Sequence[str]) -> np.ndarray:
    """What a generator paints, outside the masks too: uint8 (N, S, S, 3)."""
    recipe = GeneratorSettings.model_validate({"size": SIDE, "batch_size": _BATCH, "guidance": 3.0} | settings)
    generator, names = load_generator("bench", recipe, "cpu"), corpus.table["class_name"].tolist()
    seeds = [content_seed("bench", number) for number in range(len(corpus))]
    images, masks = np.asarray(corpus.images), np.asarray(corpus.masks)
    parts = [slice(start, start + _BATCH) for start in range(0, len(corpus), _BATCH)]
    return np.concatenate([generator.fill(images[p], masks[p], prompts[p], names[p], seeds[p]) for p in parts])


def measures(corpus: Corpus, pictures: np.ndarray, judge: Clip) -> pd.DataFrame:
    """A row per crop with the columns of the table."""
    names = corpus.table["class_name"].tolist()
    rows, seen = [], []
    for picture, source, mask in zip(pictures, corpus.images, np.asarray(corpus.masks), strict=True):
        pasted = np.where(mask[..., None], picture, source)
        seen.append(focus(pasted, mask, cut_out=True))
        rows.append(
            {
                "sharpness": sharpness(pasted, np.asarray(source), mask),
                "edges kept": edges_kept(picture, np.asarray(source), mask),
                "outline found": outline_found(picture, mask),
            }
        )
    features = judge.images(seen)
    found = judge.class_scores(features, CITYSCAPES.classes).argmax(axis=1)
    table = pd.DataFrame(rows)
    table["class margin"] = class_margin(judge, features, names, CITYSCAPES.classes)
    table["named"] = [CITYSCAPES.classes[number] == name for number, name in zip(found, names, strict=True)]
    return table.assign(class_name=names)


def _edges(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return cv2.Canny(grey, 40, 80, L2gradient=True) > 0


def _near(edges: np.ndarray) -> np.ndarray:
    return cv2.dilate(edges.astype(np.uint8), _NEAR).astype(bool)


def edges_kept(picture: np.ndarray, source: np.ndarray, mask: np.ndarray) -> float:
    """F-score of edges off the mask's outline; NaN where the source has none there."""
    inside = cv2.erode(mask.astype(np.uint8), _NEAR).astype(bool)
    ours, theirs = (_edges(image) & inside for image in (picture, source))
    if not theirs.any():
        return float("nan")
    if not ours.any():
        return 0.0
    precision, recall = _near(theirs)[ours].mean(), _near(ours)[theirs].mean()
    return float(2 * precision * recall / max(precision + recall, 1e-9))


def outline_found(picture: np.ndarray, mask: np.ndarray) -> float:
    """Share of the inner outline of the mask with an edge of the picture a pixel away at most."""
    outline = mask & ~cv2.erode(mask.astype(np.uint8), _NEAR).astype(bool)
    return float(_near(_edges(picture))[outline].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("build/structure"), help="held-out crops, drawn if missing")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "checkpoints")
    parser.add_argument("--per-class", type=int, default=24)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0], help="of the ControlNet")
    parser.add_argument("--sheet", type=Path, help="JPEG with some of the repaintings")
    given = parser.parse_args()
    corpus = crops_of(given.corpus, THIN, given.per_class)
    base, judge = str(given.checkpoints / "mini-sd-inpaint"), Clip(given.checkpoints / "mini-clip")
    guided = {"kind": "controlnet_inpaint", "model": base, "controlnet": str(given.checkpoints / "mini-controlnet")}
    generators: dict[str, dict[str, Any]] = {
        "diffinpainting": {"kind": "diffinpainting", "model": base},
        "gligen": {"kind": "gligen", "model": str(given.checkpoints / "mini-gligen")},
        **{f"controlnet_inpaint {s:g}": guided | {"control_strength": s} for s in given.strengths},
    }
    prompts = [caption_of(name, number) for number, name in enumerate(corpus.table["class_name"])]
    made = {"source": np.asarray(corpus.images)}
    made |= {name: painted(corpus, how | {"steps": given.steps}, prompts) for name, how in generators.items()}
    for class_name in (*THIN, None):
        rows = []
        for name, pictures in made.items():
            found = measures(corpus, pictures, judge)
            of_class = found[found.pop("class_name") == class_name] if class_name else found.drop(columns="class_name")
            means = of_class.mean(numeric_only=False).to_dict() | {"sharpness": of_class["sharpness"].median()}
            rows.append({"generator": name} | means)
        count = given.per_class if class_name else len(corpus)
        print(f"\n{class_name or 'all'}, {count} crops\n")
        print(pd.DataFrame(rows).set_index("generator").astype(float).round(3).to_string())
    if given.sheet:
        given.sheet.write_bytes(encode_jpeg(sheet(corpus, made, prompts), 80))


def sheet(corpus: Corpus, made: dict[str, np.ndarray], prompts: Sequence[str], rows: int = 12) -> np.ndarray:
    """A row for each of some crops, a column for each generator, pasted into the masks: uint8 (H, W, 3)."""
    tiles, captions = [], []
    for index in np.linspace(0, len(corpus) - 1, rows).astype(int):
        mask = np.asarray(corpus.masks[index])[..., None]
        for name, pictures in made.items():
            tiles.append(resize_image(np.where(mask, pictures[index], corpus.images[index]), (144, 144)))
            captions.append(prompts[index].removeprefix("a photo of ") if name == "source" else name)
    return contact_sheet(tiles, len(made), captions)


if __name__ == "__main__":
    main()
