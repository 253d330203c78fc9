"""How sharp are repaintings, and what do they show? Held-out crops of the demo city, by one or more checkpoints.

    python benchmarks/sharpness.py                                      # mini-sd-inpaint as it ships, at 96 pixels
    python benchmarks/sharpness.py --sizes 96 128 192 --model other=OTHER_FOLDER --sheet sharpness.jpg

Every crop is painted with another prompt of its class at the smallest of the sizes that loses nothing of it, or at the
largest. Rows: median sharpness over the source's for each class; FID x 1000 of whole crops and of crops pasted into
their masks, on mini-clip features; how often mini-clip names the class and the prompt's colour, instances cut out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import encode_jpeg, resize_image
from instsynth_dagster.data.masks import resize_mask
from instsynth_dagster.demo.city.palette import Attributes, caption
from instsynth_dagster.demo.pretraining.clip import name_accuracy
from instsynth_dagster.demo.pretraining.corpus import Corpus, CorpusRecipe, build_corpora
from instsynth_dagster.demo.pretraining.judgement import at_native_size, other_attributes
from instsynth_dagster.evaluation.metrics.image_quality import distances
from instsynth_dagster.evaluation.report.gallery import contact_sheet
from instsynth_dagster.models.clip import Clip
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.crops import focus
from instsynth_dagster.synthesis.gates import sharpness
from instsynth_dagster.synthesis.generators import load_generator

ROOT = Path(__file__).parents[1]
SIDES = (96, 128, 192, 256)
_BATCH, _TILE = 8, 144


def held_out(folder: Path, per_class: int) -> list[Corpus]:
    """The first held-out crops of each class, as large as they were drawn (256 pixels at most), by size."""
    recipe = CorpusRecipe(per_class=25, sides=SIDES, seed=1)
    corpora = build_corpora(folder, recipe, progress=lambda done, total: None)
    names = corpora[SIDES[0]].table["class_name"]
    chosen = np.concatenate([np.flatnonzero(names == name)[:per_class] for name in CITYSCAPES.classes])
    return at_native_size(corpora, set(chosen.tolist()))


def painted(part: Corpus, wanted: Sequence[Attributes], model: Path, side: int, steps: int) -> list[np.ndarray]:
    """Crops of one size as a checkpoint paints them at another, brought back to their own: uint8 (S, S, 3) each."""
    recipe = {"kind": "diffinpainting", "model": str(model), "size": side, "steps": steps, "guidance": 3.0}
    generator = load_generator("bench", GeneratorSettings.model_validate(recipe | {"batch_size": _BATCH}), "cpu")
    images = np.stack([resize_image(np.ascontiguousarray(image), (side, side)) for image in part.images])
    masks = np.stack([resize_mask(np.ascontiguousarray(mask), side) for mask in part.masks])
    names, prompts = part.table["class_name"].tolist(), [caption(about) for about in wanted]
    seeds = [content_seed("sharpness", number) for number in part.table["number"].tolist()]
    pictures: list[np.ndarray] = []
    for start in range(0, len(part), _BATCH):
        some = slice(start, start + _BATCH)
        pictures += list(generator.fill(images[some], masks[some], prompts[some], names[some], seeds[some]))
    return [resize_image(picture, part.images.shape[1:3]) for picture in pictures]


def measures(
    sources: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    pictures: Sequence[np.ndarray],
    table: pd.DataFrame,
    colors: Sequence[str],
    judge: Clip,
) -> dict[str, float]:
    """The columns of the table."""
    pasted = [np.where(m[..., None], p, s) for s, m, p in zip(sources, masks, pictures, strict=True)]
    sharp = [sharpness(p, s, m) for s, m, p in zip(sources, masks, pasted, strict=True)]
    real = judge.images(sources)
    named = name_accuracy(
        judge,
        [focus(p, m, cut_out=True) for p, m in zip(pasted, masks, strict=True)],
        table["class_name"].tolist(),
        colors,
    )
    return {
        **pd.Series(sharp).groupby(table["class_name"]).median().to_dict(),
        "FID whole": 1000 * distances(real, judge.images(pictures))["fid"],
        "FID pasted": 1000 * distances(real, judge.images(pasted))["fid"],
        "class": named["class"],
        "colour": named["color"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("build/sharpness"), help="held-out crops, drawn if missing")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FOLDER", help="besides the shipped one")
    parser.add_argument("--sizes", type=int, nargs="+", default=[96])
    parser.add_argument("--per-class", type=int, default=25, help="25 at most")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--sheet", type=Path, help="JPEG with two crops of each class")
    given = parser.parse_args()
    models = {"shipped": ROOT / "checkpoints" / "mini-sd-inpaint"}
    models |= {name: Path(folder) for name, folder in (text.split("=", 1) for text in given.model)}
    sources: list[np.ndarray] = []
    masks: list[np.ndarray] = []
    tables, colors = [], []
    made: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for part in held_out(given.corpus, given.per_class):
        own = part.images.shape[1]
        side = min((size for size in given.sizes if size >= own), default=max(given.sizes))
        wanted = [
            other_attributes(row.class_name, row.color, content_seed("sharpness", row.number))
            for row in part.table.itertuples()
        ]
        for name, folder in models.items():
            made[name] += painted(part, wanted, folder, side, given.steps)
        sources += map(np.ascontiguousarray, part.images)
        masks += map(np.ascontiguousarray, part.masks)
        tables.append(part.table)
        colors += [about.color for about in wanted]
    table, judge = pd.concat(tables, ignore_index=True), Clip(ROOT / "checkpoints" / "mini-clip")
    rows = {name: measures(sources, masks, pictures, table, colors, judge) for name, pictures in made.items()}
    print(f"{len(table)} crops\n\n{pd.DataFrame(rows).round(3).to_string()}")
    if given.sheet:
        given.sheet.write_bytes(encode_jpeg(sheet(sources, masks, made, table), 80))


def sheet(
    sources: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    made: dict[str, list[np.ndarray]],
    table: pd.DataFrame,
    per_class: int = 2,
) -> np.ndarray:
    """One row per class: crops, each followed by its repaintings, one for each checkpoint; uint8 (H, W, 3)."""
    tiles, captions = [], []
    for name in CITYSCAPES.classes:
        for index in np.flatnonzero(table["class_name"] == name)[:per_class]:
            tiles.append(resize_image(sources[index], (_TILE, _TILE)))
            for pictures in made.values():
                pasted = np.where(masks[index][..., None], pictures[index], sources[index])
                tiles.append(resize_image(pasted, (_TILE, _TILE)))
            captions += ["source", *made]
    return contact_sheet(tiles, per_class * (1 + len(made)), captions)


if __name__ == "__main__":
    main()
