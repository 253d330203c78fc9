"""COCO JSON with instance masks: polygons and run-length codes, compressed or not, in the variants that tools write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from instsynth_dagster.data.annotated import Annotated, AnnotatedImage, Category, ImageFolder
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.files import is_set, read_json
from instsynth_dagster.errors import DatasetError


def read_coco(files: Mapping[str | None, Path], folder: ImageFolder) -> Annotated:
    """A data set of one or several COCO files.

    Args:
        files: annotation files by split; None for a single file without splits.
        folder: folder of the images.

    Raises:
        DatasetError: a file is no COCO file with instances, two files give a category id two names, or an image is in
            both splits.
    """
    categories: dict[int, Category] = {}
    found = Collected(folder)
    for split, path in files.items():
        data = read_json(path)
        check_lists(path, data, "COCO file with instances", ("images", "annotations", "categories"))
        used = {row["category_id"] for row in rows_of(path, data, "annotations", ("image_id", "category_id"))}
        join_categories(categories, path, read_categories(path, data, used, found))
        _objects(path, data, _images(path, data, split, found), categories, found)
    return found.annotated(list(files.values()), list(categories.values()))


def with_other_images(path: Path, file_of: Callable[[str], str | None]) -> dict[str, Any]:
    """The content of a COCO file for other files of its images; annotations and categories are unchanged.

    Of an image only id, size and licence are kept, because its URLs lead to the original picture.

    Args:
        file_of: the other file, by the name in the COCO file; None for an image that is left out with its annotations.

    Raises:
        DatasetError: the file is no COCO file, see `read_coco`.
    """
    data = read_json(path)
    check_lists(path, data, "COCO file with instances", ("images", "annotations", "categories"))
    images = [
        {key: row[key] for key in ("id", "width", "height", "license") if key in row} | {"file_name": file}
        for row in rows_of(path, data, "images", ("id", "file_name"))
        if (file := file_of(str(row["file_name"])))
    ]
    kept = {image["id"] for image in images}
    annotations = [row for row in rows_of(path, data, "annotations", ("image_id",)) if row["image_id"] in kept]
    return data | {"images": images, "annotations": annotations}


def join_categories(known: dict[int, Category], path: Path, found: Iterable[Category]) -> None:
    """Add the categories of a file to those of other files.

    Raises:
        DatasetError: an id has two names.
    """
    for category in found:
        other = known.setdefault(category.id, category)
        if other.name != category.name:
            raise DatasetError(
                f"{path}: category {category.id} is {category.name!r}, but {other.name!r} in another file"
            )


def check_lists(path: Path, data: Any, kind: str, keys: Sequence[str]) -> None:
    """Check that `data` is a mapping with these lists.

    Raises:
        DatasetError: it is not.
    """
    for key in keys:
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DatasetError(f"{path}: not a {kind}: it has no list {key!r}")


def rows_of(path: Path, data: dict[str, Any], key: str, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    """A list of mappings that all have the needed keys; ids that are written as text, "7", become numbers.

    Raises:
        DatasetError: one of them lacks a key.
    """
    for number, row in enumerate(data[key]):
        missing = [name for name in needed if not isinstance(row, dict) or row.get(name) is None]
        if missing:
            raise DatasetError(f"{path}: {key}[{number}] has no {missing[0]!r}")
        strange = [name for name in ("id", "image_id", "category_id") if isinstance(row.get(name), list | dict)]
        if strange:
            raise DatasetError(f"{path}: {key}[{number}].{strange[0]} is neither a number nor text")
        for name in ("id", "image_id", "category_id"):
            if isinstance(text := row.get(name), str) and text.isdecimal() and text == str(int(text)):
                row[name] = int(text)
    return data[key]


def read_categories(path: Path, data: dict[str, Any], used: Collection[Any], seen: Collected) -> list[Category]:
    """The categories of a file; of two with the same name, those with `used` ids are kept.

    Raises:
        DatasetError: an id is no integer, or has two names.
    """
    rows = rows_of(path, data, "categories", ("id", "name"))
    found: dict[int, Category] = {}
    twice = {name for name, count in Counter(str(row["name"]) for row in rows).items() if count > 1}
    for row in rows:
        number, name = row["id"], str(row["name"])
        if not isinstance(number, int) or isinstance(number, bool):
            raise DatasetError(f"{path}: the category id {number!r} is no whole number")
        if number in found:
            if found[number].name != name:
                raise DatasetError(
                    f"{path}: category id {number} occurs twice, for {found[number].name!r} and {name!r}"
                )
            continue
        if name in twice:
            if number not in used:  # Roboflow writes the project itself as category 0
                seen.note(
                    f"category {name}", f"category {name!r} (id {number}) shares its name and is not used: left out"
                )
                continue
            name = f"{name} {number}" if sum(str(o["name"]) == name and o["id"] in used for o in rows) > 1 else name
        found[number] = Category(number, name, row.get("supercategory"), is_set(row.get("isthing", 1)))
    return list(found.values())


def _images(path: Path, data: dict[str, Any], split: str | None, found: Collected) -> dict[Any, AnnotatedImage | None]:
    """Images by id; None for an image whose file is missing."""
    by_id: dict[Any, AnnotatedImage | None] = {}
    names: dict[Any, str] = {}
    for row in rows_of(path, data, "images", ("id", "file_name")):
        number, name = row["id"], str(row["file_name"])
        if number in by_id:
            if names[number] != name:
                raise DatasetError(f"{path}: image id {number!r} occurs twice, for {names[number]!r} and {name!r}")
            found.note("image twice", "images are listed twice")
            continue
        names[number] = name
        size = (side(path, row, "width", name), side(path, row, "height", name))
        by_id[number] = found.image(path, name, split, size, number)
    return by_id


def side(path: Path, row: Mapping[str, Any], key: str, name: str) -> int | None:
    """A width or height of an image in pixels; None where it is not given.

    Raises:
        DatasetError: it is no integer above 0.
    """
    value = row.get(key)
    if value in (None, 0):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 1:
        raise DatasetError(f"{path}: image {name!r} has the {key} {value!r}; it must be a whole number of pixels")
    return int(value)


def _objects(
    path: Path,
    data: dict[str, Any],
    images: dict[Any, AnnotatedImage | None],
    categories: dict[int, Category],
    found: Collected,
) -> None:
    for row in rows_of(path, data, "annotations", ("image_id", "category_id")):
        if row["image_id"] not in images:
            found.note("orphan", "annotations belong to no listed image and are left out")
            continue
        image = images[row["image_id"]]
        if image is None:
            continue
        if row["category_id"] not in categories:
            found.note("category", "annotations name no listed category and are left out")
            continue
        crowd = is_set(row.get("iscrowd")) or is_set(row.get("ignore"))
        found.add(image, row["category_id"], row.get("segmentation"), crowd, row.get("id"))
