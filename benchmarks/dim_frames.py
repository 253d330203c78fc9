"""How bright repaintings are on dim frames, against what they are by day: python benchmarks/dim_frames.py

Held-out crops of the demo city are darkened; the same prompts and seeds are painted on them as on the crops by day.
A repainting fits when it is as much darker as its surroundings are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from structure import caption_of, crops_of

from instsynth_dagster.demo.pretraining.corpus import Corpus
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import GeneratorSettings
from instsynth_dagster.synthesis.generators import load_generator
from instsynth_dagster.synthesis.integration import match_colors

ROOT = Path(__file__).parents[1]
CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


def painted(corpus: Corpus, images: np.ndarray, steps: int, normalise: bool = False) -> np.ndarray:
    """The crops repainted by diffinpainting, uint8 (N, S, S, 3); the same prompts and seeds every time."""
    settings = GeneratorSettings.model_validate(
        {
            "kind": "diffinpainting",
            "model": str(ROOT / "checkpoints/mini-sd-inpaint"),
            "size": images.shape[1],
            "steps": steps,
            "guidance": 3.0,
            "normalise_exposure": normalise,
        }
    )
    generator, names = load_generator("bench", settings, "cpu"), corpus.table["class_name"].tolist()
    prompts = [caption_of(name, number) for number, name in enumerate(names)]
    seeds = [content_seed("dim", number) for number in range(len(names))]
    parts = [slice(start, start + 8) for start in range(0, len(names), 8)]
    return np.concatenate([generator.fill(images[p], corpus.masks[p], prompts[p], names[p], seeds[p]) for p in parts])


def inside(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean grey level of each instance."""
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    return np.array([grey[mask].mean() for grey, mask in zip(greys, masks, strict=True)])


def table(corpus: Corpus, light: float, steps: int) -> pd.DataFrame:
    """A row for each way of fitting a repainting to its surroundings."""
    masks = np.asarray(corpus.masks)
    day = np.asarray(corpus.images)
    dim = np.rint(light * day).astype(np.uint8)
    around = inside(dim, ~masks)
    wanted = light * inside(painted(corpus, day, steps), masks)
    plain = painted(corpus, dim, steps)
    ways = {
        "as painted": plain,
        "color_match: mean_std": np.stack([match_colors(*one) for one in zip(plain, dim, masks, strict=True)]),
        "normalise_exposure": painted(corpus, dim, steps, normalise=True),
    }
    rows = []
    for name, images in ways.items():
        found = inside(images, masks)
        rows.append(
            {
                "fitted by": name,
                "inside - outside": (found - around).mean(),
                "by day, darkened": (wanted - around).mean(),
                "too bright by": (found - wanted).mean(),
                "absolute": np.abs(found - wanted).mean(),
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=Path("build/structure"), help="held-out crops, drawn if missing")
    parser.add_argument("--per-class", type=int, default=5)
    parser.add_argument("--light", type=float, nargs="+", default=[0.5, 0.3], help="share of the light that is left")
    parser.add_argument("--steps", type=int, default=15)
    given = parser.parse_args()
    corpus = crops_of(given.corpus, CLASSES, given.per_class)
    for light in given.light:
        print(f"\n{len(corpus)} crops, {light:.0%} of the light; grey levels\n")
        print(table(corpus, light, given.steps).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
