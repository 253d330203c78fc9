"""A params file for a COCO data set, and what was noticed: python -m instsynth_dagster.new --coco FILE --images DIR

    python -m instsynth_dagster.new --coco annotations.json --images photos > params.yaml
    python -m instsynth_dagster.new --coco train.json --coco-val val.json --images photos > params.yaml

The file goes to standard output, what was noticed to standard error and, as comments, into the file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from instsynth_dagster.data.index import Survey
from instsynth_dagster.data.opening import open_index
from instsynth_dagster.data.reading import header
from instsynth_dagster.errors import UserError
from instsynth_dagster.settings.data import CocoImages, SplitSettings

VAL_FRACTION = 0.2
RARE = 10
_LOOKED_AT = 500
"""Images of which the header is read for EXIF."""
_LONGEST_SIDE, _STEP = 1024, 32
_GENERATOR = {
    "kind": "diffinpainting",
    "model": "checkpoints/mini-sd-inpaint",
    "size": 96,
    "steps": 15,
    "guidance": 3.0,
    "batch_size": 8,
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, required=True, help="COCO JSON with instance masks")
    parser.add_argument("--coco-val", type=Path, help="a second file, of the validation images")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--name", default="mine", help="of the folders for artifacts, exports and results")
    given = parser.parse_args(arguments)
    try:
        text, noticed = new_params(given.coco, given.coco_val, given.images, given.name)
    except UserError as error:
        sys.exit(str(error))
    print("\n".join(noticed), file=sys.stderr)
    print(text, end="")


def new_params(coco: Path, coco_val: Path | None, images: Path, name: str) -> tuple[str, list[str]]:
    """The text of a params file, and what was noticed, one sentence each.

    Raises:
        UserError: files are missing or not of their format.
    """
    artifacts = {part: f"{part}/{name}" for part in ("artifacts", "exports", "results")}
    annotations = {"train": coco, **({"val": coco_val} if coco_val else {})}
    dataset = CocoImages(root=images, annotations=annotations)
    local = Path(artifacts["artifacts"])
    survey = open_index(dataset, local).survey()
    split = None
    if not coco_val and len(survey.train_cities) > 1:
        split = SplitSettings(val_fraction=VAL_FRACTION)
        survey = open_index(dataset.model_copy(update={"split": split}), local).survey()
    noticed = [*survey.notes, *_noticed(dataset, survey, local)]
    section: dict[str, Any] = {
        "format": "coco",
        "images": str(images),
        "annotations": {key: str(path) for key, path in annotations.items()},
    }
    if split:
        section["split"] = split.model_dump(exclude_defaults=True)
    params = {
        "seed": 0,
        "device": "auto",
        "artifacts": {"root": artifacts["artifacts"], "exports": artifacts["exports"], "results": artifacts["results"]},
        "dataset": section,
        "classes": [given for given in survey.labels.classes if survey.instances.get(given)],
        "selection": {"policy": "balanced", "k": 3, "min_area": 300, "quota": 24, "margin": 0.25},
        "generators": {"diffinpainting": _GENERATOR},
        "integration": {"window_size": window_size(survey)},
        "arms": ["zoom_crop", "diffinpainting"],
    }
    comments = "".join(f"# {line}\n" for line in [*_HEAD, "", *noticed])
    return comments + yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=120), noticed


_HEAD = (
    "Made by python -m instsynth_dagster.new. Look at it, then: make plan, make export.",
    "The miniature generator has seen drawings only; name a real checkpoint (profiles/cityscapes.yaml has some).",
)


def window_size(survey: Survey) -> list[int]:
    """Width and height of windows: the proportions of the median image, its longer side at most 1,024."""
    sizes = np.repeat(np.array(list(survey.sizes)), list(survey.sizes.values()), axis=0)
    width, height = np.median(sizes, axis=0)
    scale = min(1.0, _LONGEST_SIDE / max(width, height))
    return [max(_STEP, round(side * scale / _STEP) * _STEP) for side in (width, height)]


def _noticed(dataset: CocoImages, survey: Survey, local: Path) -> list[str]:
    frames = sum(survey.frames.values())
    val = sum(survey.frames[city] for city in survey.val_cities)
    counts = dict(survey.instances)
    found = [
        f"{frames - val:,} images to train on in {len(survey.train_cities)} groups, {val:,} to validate on in "
        f"{len(survey.val_cities)}; {sum(counts.values()):,} objects of {len(counts)} classes to train on",
    ]
    never = [name for name in survey.labels.classes if name not in counts]
    if never:
        found.append(f"classes without an object to train on are left out: {', '.join(never)}")
    rare = [f"{name} ({count})" for name, count in counts.items() if count < RARE]
    if rare:
        found.append(f"rare classes, of fewer than {RARE} objects: {', '.join(rare)}")
    if not survey.val_cities:
        found.append("no images to validate on: nothing is trained; give --coco-val or a split")
    if len(survey.sizes) > 1:
        widths, heights = zip(*survey.sizes, strict=True)
        found.append(
            f"images of {len(survey.sizes)} sizes, {min(widths)} to {max(widths)} wide, "
            f"{min(heights)} to {max(heights)} high"
        )
    return [*found, *_orientations(dataset, survey, local)]


def _orientations(dataset: CocoImages, survey: Survey, local: Path) -> list[str]:
    """What EXIF says about how images are to be shown, of the first images."""
    index = open_index(dataset, local)
    cities = index.survey()
    counts = {"turned": 0, "as stored": 0, "both": 0}
    looked = 0
    for city in (*cities.train_cities, *cities.val_cities):
        for frame in index.frames(city):
            if looked == _LOOKED_AT:
                break
            looked += 1
            stored, orientation = header(dataset.root / frame.file)
            if orientation == 1:
                continue
            shown = stored[::-1] if orientation >= 5 else stored
            both = shown == stored == frame.size
            counts["both" if both else "turned" if frame.size == shown else "as stored"] += 1
    found = []
    if counts["turned"] or counts["as stored"]:
        found.append(
            f"of {looked:,} images {counts['turned'] + counts['as stored']} are stored turned (EXIF): by the size that "
            f"they are annotated at, {counts['turned']} are annotated as shown and {counts['as stored']} as stored"
        )
    if counts["both"]:
        found.append(
            f"of {looked:,} images {counts['both']} carry an EXIF orientation that the annotated size does not decide; "
            "they are turned as viewers show them, set dataset.orientation to ignore if they were annotated as stored"
        )
    return found


if __name__ == "__main__":
    main()
