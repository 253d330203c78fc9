"""The novel classes of each fold, and the lists of images on which the protocols are defined.

PASCAL-5i: 4 folds of 5 of the 20 classes, consecutive. COCO-20i: 4 folds of 20 of the 80, every fourth class, or 20
consecutive ones in the older variant. Cityscapes: 4 folds of 2 of the 8 instance classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from instsynth_dagster.data.images import decode_png
from instsynth_dagster.errors import DatasetError

FOLDS = 4
IGNORED = 255


@dataclass(frozen=True)
class Candidate:
    """An image that may be drawn as a shot: pixels of each class in it, by class number (or name)."""

    image_id: str
    areas: Mapping[int | str, int]


def pascal_fold(fold: int) -> tuple[int, ...]:
    """Novel classes 1..20 of PASCAL-5i."""
    return tuple(range(5 * _checked(fold) + 1, 5 * fold + 6))


def coco_fold(fold: int, contiguous: bool = False) -> tuple[int, ...]:
    """Novel classes 1..80 of COCO-20i: those congruent to fold + 1 modulo 4, or 20 in a row."""
    first = _checked(fold) + 1
    return tuple(range(20 * fold + 1, 20 * fold + 21)) if contiguous else tuple(range(first, 81, 4))


def class_fold(fold: int, classes: Sequence[str]) -> tuple[str, ...]:
    """Novel classes of fold 0..3: every fourth class, so that each fold has a common and a rare one."""
    return tuple(classes[_checked(fold) :: FOLDS])


def _checked(fold: int) -> int:
    if fold not in range(FOLDS):
        raise ValueError(f"folds are 0 to {FOLDS - 1}, got {fold}")
    return fold


def pascal_candidates(root: Path, split: str) -> Iterator[Candidate]:
    """Images of a split of VOC 2012 ("train_aug", "val"; `ImageSets/SegmentationAug/<split>.txt`) with the areas in
    their class maps (`SegmentationClassAug/<id>.png`).

    Raises:
        DatasetError: a list or a class map is missing.
    """
    listed = root / "ImageSets" / "SegmentationAug" / f"{split}.txt"
    if not listed.is_file():
        raise DatasetError(f"{listed}: no such list; PASCAL-5i needs VOC 2012 with the SBD masks")
    for line in listed.read_text().split("\n"):
        image_id = Path(line.split(" ")[0]).stem
        if image_id:
            path = root / "SegmentationClassAug" / f"{image_id}.png"
            if not path.is_file():
                raise DatasetError(f"{path}: no such class map, though {listed.name} names it")
            yield Candidate(image_id, class_areas(decode_png(path.read_bytes())))


def coco_candidates(annotations: Path) -> Iterator[Candidate]:
    """Images of a COCO instance file with their areas by class 1..80 (crowds left out).

    Raises:
        DatasetError: the file is missing or is no COCO instance file.
    """
    try:
        data = json.loads(annotations.read_text())
        numbers = {row["id"]: number for number, row in enumerate(sorted(data["categories"], key=_id), 1)}
        areas: dict[int, dict[int | str, int]] = {row["id"]: {} for row in data["images"]}
        for row in data["annotations"]:
            if not row.get("iscrowd"):
                found, number = areas[row["image_id"]], numbers[row["category_id"]]
                found[number] = found.get(number, 0) + round(row["area"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{annotations}: not a COCO instance file: {error!r}") from None
    for image_id in sorted(areas):
        yield Candidate(f"{image_id:012d}", areas[image_id])


def _id(row: Mapping[str, int]) -> int:
    return row["id"]


def class_areas(labels: np.ndarray) -> dict[int | str, int]:
    """Pixels of each class of a class map uint8 (H, W), without background and ignored pixels."""
    values, counts = np.unique(labels, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, counts, strict=True) if value not in (0, IGNORED)}
