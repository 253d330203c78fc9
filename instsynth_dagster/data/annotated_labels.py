"""The label table of a data set whose objects are annotated one by one."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence

from instsynth_dagster.data.annotated import Annotated, Category
from instsynth_dagster.data.labels import LARGEST, Label, LabelTable
from instsynth_dagster.errors import DatasetError

BACKGROUND, UNLABELED, VOID = "background", "unlabeled", "void"
_LARGEST_KEPT_ID = 9_999


def label_table(annotated: Annotated) -> LabelTable:
    """The label table of a data set whose objects are annotated one by one.

    Id 0 is everything outside the objects: background, which is evaluated, or `unlabeled`, which is not, for formats
    that label every pixel. Categories keep their ids where these are 1 to 9,999, otherwise they are numbered. One more
    label, the last, is void.
    """
    categories = annotated.categories
    if not categories:
        raise DatasetError("the annotations name no category")
    kept = all(1 <= category.id <= _LARGEST_KEPT_ID for category in categories)
    names = _class_names(categories)
    void = annotated.unlabeled_is_void
    labels = [Label(_free(UNLABELED if void else BACKGROUND, names), 0, False, void, (0, 0, 0))]
    for number, (category, name) in enumerate(zip(categories, names, strict=True), 1):
        labels.append(
            Label(
                name,
                category.id if kept else number,
                category.has_instances,
                category.ignored,
                palette(number),
                category.supercategory,
                category.id,
            )
        )
    highest = max(label.id for label in labels) + 1
    labels.append(Label(_free(VOID, names), highest, False, True, (0, 0, 0)))
    return LabelTable(tuple(labels), _factor(annotated, highest))


def _factor(annotated: Annotated, highest: int) -> int:
    """The smallest power of ten with room for all ids, and for twice the largest number of objects of a category in one
    image.
    """
    most = 0
    for image in annotated.images:
        most = max([most, *Counter(o.category for o in image.objects if not o.crowd).values()])
    factor = 1000
    while factor <= max(highest, 2 * most):
        factor *= 10
    if (highest + 1) * factor > LARGEST:
        raise DatasetError(f"{highest} labels with up to {most} objects in an image do not fit ids of 32 bits")
    return factor


def _class_names(categories: Sequence[Category]) -> list[str]:
    """Category names usable as partition keys: without separators of paths and keys, and unique."""
    names: list[str] = []
    for category in categories:
        plain = "".join(" " if c in "/\\|:" or not c.isprintable() else c for c in category.name)
        plain = " ".join(plain.split()).strip(". ")[:80] or f"category {category.id}"
        names.append(plain if plain not in names else f"{plain} {category.id}")
    return names


def _free(name: str, taken: Sequence[str]) -> str:
    while name in taken:
        name = f"{name}_"
    return name


def palette(number: int) -> tuple[int, int, int]:
    """RGB colour of the n-th label; consecutive ones differ clearly."""
    red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.75, 0.9 if number % 2 else 0.7)
    return round(255 * red), round(255 * green), round(255 * blue)
