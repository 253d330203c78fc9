"""Shot lists of few-shot instance segmentation on COCO, by annotation: 60 base classes, and the 20 of VOC as novel
ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from instsynth_dagster.errors import DatasetError
from instsynth_dagster.few_shot.folds import Candidate
from instsynth_dagster.few_shot.shots import draw_shots

VOC_CLASSES = (
    "airplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "dining table",
    "dog",
    "horse",
    "motorcycle",
    "person",
    "potted plant",
    "sheep",
    "couch",
    "train",
    "tv",
)


def coco_shots(annotations: Path, shots: int, seed: int, classes: Sequence[str] | None = None) -> dict[str, list[int]]:
    """Annotation ids of `shots` instances of each class, without crowds; the lists of fewer shots are prefixes of those
    of more.

    Classes are found by name, because COCO's ids have gaps.

    Args:
        annotations: a COCO instance file.
        classes: names; default: all of the file.

    Raises:
        DatasetError: it is no COCO instance file, or a class has fewer instances than shots.
    """
    try:
        data = json.loads(annotations.read_text())
        names = {row["id"]: row["name"] for row in data["categories"]}
        by_class: dict[str, list[int]] = {name: [] for name in classes or names.values()}
        for row in data["annotations"]:
            if not row.get("iscrowd") and names[row["category_id"]] in by_class:
                by_class[names[row["category_id"]]].append(int(row["id"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{annotations}: not a COCO instance file: {error!r}") from None
    lists = {}
    for name, ids in by_class.items():
        if len(ids) < shots:
            raise DatasetError(f"{annotations}: {name}: {shots} shots requested, but it has {len(ids)} instances")
        candidates = [Candidate(str(number), {name: 1}) for number in ids]
        lists[name] = [int(number) for number in draw_shots(candidates, name, shots, seed, min_area=1)]
    return lists
