"""A params file for a data set, and notes about it: python -m instsynth_dagster.new --coco FILE --images DIR

    python -m instsynth_dagster.new --coco annotations.json --images photos > params.yaml
    python -m instsynth_dagster.new --coco train.json --coco-val val.json --images photos > params.yaml
    python -m instsynth_dagster.new --format yolo --annotations data.yaml > params.yaml

The file goes to standard output, the notes go to standard error and, as comments, into the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from instsynth_dagster.data.index import IndexedFrame, Survey
from instsynth_dagster.data.opening import open_index
from instsynth_dagster.data.rasterise import object_mask
from instsynth_dagster.data.reading import header
from instsynth_dagster.errors import SettingsError, UserError
from instsynth_dagster.settings.data import AnnotatedImages, SplitSettings
from instsynth_dagster.settings.formats import DatasetSettings

VAL_FRACTION = 0.2
RARE, MIN_AREA = 10, 300
_FEWEST_GROUPS, _MOST_PARTITIONS = 4, 240
_LOOKED_AT = 500
"""Number of images whose headers are read for EXIF orientations."""
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
    parser.add_argument(
        "--coco", "--annotations", dest="train", required=True, help="annotations, as docs/data.md has them"
    )
    parser.add_argument("--coco-val", "--annotations-val", dest="val", help="another one, of the validation images")
    parser.add_argument("--images", help="folder of the images, where the format does not say")
    parser.add_argument("--format", default="coco", help="of the annotations; default: coco")
    parser.add_argument("--name", default="mine", help="of the folders for artifacts, exports and results")
    given = parser.parse_args(arguments)
    section: dict[str, Any] = {"format": given.format}
    if given.images:
        section["images"] = given.images
    section["annotations"] = {"train": given.train, "val": given.val} if given.val else given.train
    try:
        text, noticed = new_params(section, given.name)
    except UserError as error:
        sys.exit(str(error))
    print("\n".join(noticed), file=sys.stderr)
    print(text, end="")


def new_params(section: dict[str, Any], name: str) -> tuple[str, list[str]]:
    """The text of a params file for a section `dataset`, and notes about the data, one sentence each.

    Raises:
        UserError: files are missing or not in their format.
    """
    artifacts = {part: f"{part}/{name}" for part in ("artifacts", "exports", "results")}
    dataset = _dataset(section)
    local = Path(artifacts["artifacts"])
    survey = open_index(dataset, local).survey()
    groups = len(survey.train_cities) + len(survey.val_cities)
    most = max(_FEWEST_GROUPS, _MOST_PARTITIONS // max(1, len(survey.instances)))
    if groups > most:
        section = {**section, "max_groups": most}
        dataset = _dataset(section)
        survey = open_index(dataset, local).survey()
    if not survey.val_cities and len(survey.train_cities) > 1:
        split = SplitSettings(val_fraction=VAL_FRACTION)
        section = {**section, "split": split.model_dump(exclude_defaults=True)}
        dataset = _dataset(section)
        survey = open_index(dataset, local).survey()
    noticed = [*survey.notes, *_noticed(dataset, survey, local)]
    if groups > most:
        noticed.append(
            f"{len(survey.instances)} classes: {groups} groups of images are made {most} (max_groups): artifacts "
            "have a partition for each group and class"
        )
    params = {
        "seed": 0,
        "device": "auto",
        "artifacts": {"root": artifacts["artifacts"], "exports": artifacts["exports"], "results": artifacts["results"]},
        "dataset": section,
        "classes": [given for given in survey.labels.classes if survey.instances.get(given)],
        "selection": {"policy": "balanced", "k": 3, "min_area": MIN_AREA, "quota": 24, "margin": 0.25},
        "generators": {"diffinpainting": _GENERATOR},
        "integration": {"window_size": list(survey.window_size)},
        "arms": ["zoom_crop", "diffinpainting"],
    }
    comments = "".join(f"# {line}\n" for line in [*_HEAD, "", *noticed])
    return comments + yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=120), noticed


_HEAD = (
    "Made by python -m instsynth_dagster.new. Look at it, then: make plan, make export.",
    "The miniature generator has seen drawings only; name a real checkpoint (profiles/cityscapes.yaml has some).",
)


def _dataset(section: dict[str, Any]) -> AnnotatedImages:
    """The validated section.

    Raises:
        SettingsError: options are missing, or no format of annotated images is named.
    """
    try:
        dataset = TypeAdapter(DatasetSettings).validate_python(section)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][1:]) or "--format"
        raise SettingsError(f"{key}: {first['msg'].removeprefix('Value error, ')}") from None
    if not isinstance(dataset, AnnotatedImages):
        raise SettingsError("--format: a tree in Cityscapes layout names its cities; see docs/data.md")
    return dataset


def _noticed(dataset: AnnotatedImages, survey: Survey, local: Path) -> list[str]:
    frames = sum(survey.frames.values())
    val = sum(survey.frames[city] for city in survey.val_cities)
    counts = dict(survey.instances)
    found = [
        f"{frames - val:,} images to train on in {len(survey.train_cities)} groups, {val:,} to validate on in "
        f"{len(survey.val_cities)}; {sum(counts.values()):,} objects of {len(counts)} classes to train on",
    ]
    never = [name for name in survey.labels.classes if name not in counts]
    if never:
        found.append(f"classes without an object to train on are left out: {_some(never)}")
    rare = [f"{name} ({count})" for name, count in counts.items() if count < RARE]
    if rare:
        found.append(f"{len(rare)} rare classes, of fewer than {RARE} objects: {_some(rare)}")
    if not survey.val_cities:
        found.append("no images to validate on: nothing is trained; give --annotations-val or a split")
    if len(survey.sizes) > 1:
        widths, heights = zip(*survey.sizes, strict=True)
        found.append(
            f"images of {len(survey.sizes)} sizes, {min(widths)} to {max(widths)} wide, "
            f"{min(heights)} to {max(heights)} high"
        )
    return [*found, *_tiny(dataset, survey, local), *_orientations(dataset, survey, local)]


def _some(names: Sequence[str], most: int = 12) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _frames(dataset: AnnotatedImages, survey: Survey, local: Path) -> Iterator[IndexedFrame]:
    """The first frames."""
    index = open_index(dataset, local)
    cities = (*survey.train_cities, *survey.val_cities)
    return islice((frame for city in cities for frame in index.frames(city)), _LOOKED_AT)


def _tiny(dataset: AnnotatedImages, survey: Survey, local: Path) -> list[str]:
    """Notes on the objects of the first images that are too small to be repainted."""
    areas = [
        int(object_mask(found.segmentation, frame.size[::-1]).sum())
        for frame in _frames(dataset, survey, local)
        for found in frame.annotations
        if not found.is_group
    ]
    tiny = sum(area < MIN_AREA for area in areas)
    if not tiny:
        return []
    return [
        f"{tiny:,} of {len(areas):,} objects cover fewer than {MIN_AREA} pixels and are left as they are (min_area)"
    ]


def _orientations(dataset: AnnotatedImages, survey: Survey, local: Path) -> list[str]:
    """Notes on the EXIF orientations of the first images."""
    counts = {"turned": 0, "as stored": 0, "both": 0}
    frames = list(_frames(dataset, survey, local))
    for frame in frames:
        stored, orientation = header(dataset.root / frame.file)
        if orientation == 1:
            continue
        shown = stored[::-1] if orientation >= 5 else stored
        both = shown == stored == frame.size
        counts["both" if both else "turned" if frame.size == shown else "as stored"] += 1
    found = []
    if counts["turned"] or counts["as stored"]:
        found.append(
            f"of {len(frames):,} images {counts['turned'] + counts['as stored']} are stored turned (EXIF): by the size "
            f"that they are annotated at, {counts['turned']} are annotated as shown and {counts['as stored']} as stored"
        )
    if counts["both"]:
        found.append(
            f"of {len(frames):,} images {counts['both']} carry an EXIF orientation that the annotated size does not "
            "decide; they are turned as viewers show them, set dataset.orientation to ignore if they were annotated as "
            "stored"
        )
    return found


if __name__ == "__main__":
    main()
