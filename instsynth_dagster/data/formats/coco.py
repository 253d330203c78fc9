"""COCO JSON with instance masks: polygons, run-length codes, compressed or not, as tools write it in the wild."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instsynth_dagster.data.annotated import Annotated, AnnotatedImage, AnnotatedObject, Category, ImageFolder
from instsynth_dagster.errors import DatasetError, UnreadableError


def read_coco(files: Mapping[str | None, Path], folder: ImageFolder, crowds_are_instances: bool = False) -> Annotated:
    """A data set of one or several COCO files.

    Args:
        files: annotation files by split; None for one file that divides nothing.
        folder: of the images.
        crowds_are_instances: whether `iscrowd` is not believed.

    Raises:
        DatasetError: a file is no COCO file with instances, two of them give a category id two names, or an image
            stands in both splits.
    """
    categories: dict[int, Category] = {}
    images: dict[str, AnnotatedImage] = {}
    seen = _Noticed()
    for split, path in files.items():
        data = _load(path)
        for category in _categories(path, data, seen):
            known = categories.setdefault(category.id, category)
            if known.name != category.name:
                raise DatasetError(
                    f"{path}: category {category.id} is {category.name!r}, but {known.name!r} in another file"
                )
        by_id = _images(path, data, folder, split, images, seen)
        _objects(path, data, by_id, categories, crowds_are_instances, seen)
    if not images:
        raise DatasetError(f"{folder.root}: none of the images of {', '.join(map(str, files.values()))} is below it")
    extra = len(set(folder.files) - set(images))
    seen.add("file", "image files below the folder that no annotation file lists are left out", extra)
    return Annotated(list(categories.values()), list(images.values()), seen.sentences(crowds_are_instances))


class _Noticed:
    """What is counted while files are read."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._order: dict[str, str] = {}
        self.single: Counter[str] = Counter()
        self.crowds: Counter[str] = Counter()

    def add(self, kind: str, sentence: str, count: int = 1) -> None:
        self._counts[kind] += count
        self._order.setdefault(kind, sentence)

    def sentences(self, crowds_are_instances: bool) -> list[str]:
        found = [f"{self._counts[kind]:,} {text}" for kind, text in self._order.items() if self._counts[kind]]
        crowds, single = sum(self.crowds.values()), sum(self.single.values())
        if not crowds or crowds_are_instances:
            return found
        if not single or (self.crowds["code"] and not self.single["code"] and not self.crowds["polygon"]):
            found.append(
                f"every {'object' if not single else 'run-length code'} ({crowds:,}) is marked iscrowd, as CVAT writes "
                "masks drawn with a brush: they are taken for groups and none is repainted; set dataset.crowds to "
                "instances if each is one object"
            )
        else:
            found.append(f"{crowds:,} objects are crowds: groups that are never repainted and ignored in evaluation")
        return found


def _load(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UnreadableError(f"{path}: no such file; check dataset.annotations") from None
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error})") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(data, dict) or not isinstance(data.get(key), list):
            raise DatasetError(f"{path}: not a COCO file with instances: it has no list {key!r}")
    return data


def _rows(path: Path, data: dict[str, Any], key: str, needed: tuple[str, ...]) -> list[dict[str, Any]]:
    for number, row in enumerate(data[key]):
        missing = [name for name in needed if not isinstance(row, dict) or row.get(name) is None]
        if missing:
            raise DatasetError(f"{path}: {key}[{number}] has no {missing[0]!r}")
    return data[key]


def _categories(path: Path, data: dict[str, Any], seen: _Noticed) -> list[Category]:
    used = {row.get("category_id") for row in data["annotations"] if isinstance(row, dict)}
    rows = _rows(path, data, "categories", ("id", "name"))
    found: dict[int, Category] = {}
    twice = {name for name, count in Counter(str(row["name"]) for row in rows).items() if count > 1}
    for row in rows:
        number, name = row["id"], str(row["name"])
        if not isinstance(number, int) or isinstance(number, bool):
            raise DatasetError(f"{path}: the category id {number!r} is no whole number")
        if number in found:
            if found[number].name != name:
                raise DatasetError(
                    f"{path}: category id {number} stands twice, for {found[number].name!r} and {name!r}"
                )
            continue
        if name in twice:
            if number not in used:  # Roboflow's: the project itself as category 0
                seen.add(
                    f"category {name}", f"category {name!r} (id {number}) shares its name and is not used: left out"
                )
                continue
            name = f"{name} {number}" if sum(str(o["name"]) == name and o["id"] in used for o in rows) > 1 else name
        found[number] = Category(number, name, row.get("supercategory"), bool(row.get("isthing", 1)))
    return list(found.values())


def _images(
    path: Path,
    data: dict[str, Any],
    folder: ImageFolder,
    split: str | None,
    images: dict[str, AnnotatedImage],
    seen: _Noticed,
) -> dict[Any, AnnotatedImage | None]:
    """Images by id; None for one whose file is not there."""
    by_id: dict[Any, AnnotatedImage | None] = {}
    names: dict[Any, str] = {}
    for row in _rows(path, data, "images", ("id", "file_name")):
        number, name = row["id"], str(row["file_name"])
        if number in by_id:
            if names[number] != name:
                raise DatasetError(f"{path}: image id {number!r} stands twice, for {names[number]!r} and {name!r}")
            seen.add("image twice", "images are listed twice")
            continue
        names[number] = name
        file = folder.find(name)
        if file is None:
            by_id[number] = None
            seen.add("image missing", "images of the annotation files are not below the folder and are left out")
            continue
        image = AnnotatedImage(file, _side(path, row, "width"), _side(path, row, "height"), split)
        known = images.setdefault(file, image)
        if known.split != split:
            raise DatasetError(f"{path}: {file!r} stands in {known.split} and in {split}; an image belongs to one")
        if (known.width, known.height) != (image.width, image.height):
            raise DatasetError(f"{path}: {file!r} is listed with two sizes")
        if known is not image:
            seen.add("file twice", "images have several ids; their objects are joined")
        by_id[number] = known
    return by_id


def _side(path: Path, row: dict[str, Any], key: str) -> int | None:
    value = row.get(key)
    if value in (None, 0):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value) or value < 1:
        raise DatasetError(f"{path}: image {row['file_name']!r} has the {key} {value!r}")
    return int(value)


def _objects(
    path: Path,
    data: dict[str, Any],
    images: dict[Any, AnnotatedImage | None],
    categories: dict[int, Category],
    crowds_are_instances: bool,
    seen: _Noticed,
) -> None:
    ids: Counter[Any] = Counter()
    known: set[int] = set()
    for row in _rows(path, data, "annotations", ("image_id", "category_id")):
        if row["image_id"] not in images:
            seen.add("orphan", "annotations belong to no listed image and are left out")
            continue
        image = images[row["image_id"]]
        if image is None:
            continue
        if row["category_id"] not in categories:
            seen.add("category", "annotations name no listed category and are left out")
            continue
        segmentation = _segmentation(row.get("segmentation"))
        if segmentation is None:
            seen.add("box", "annotations have no mask, or only a box, and are left out")
            continue
        content = (image.file, row["category_id"], json.dumps(segmentation, sort_keys=True, default=str))
        if hash(content) in known:
            seen.add("copies", "annotations are exact copies of others of their image and are left out")
            continue
        known.add(hash(content))
        ids[row.get("id")] += 1
        crowd = bool(row.get("iscrowd") or row.get("ignore"))
        kind = "code" if isinstance(segmentation, dict) else "polygon"
        (seen.crowds if crowd else seen.single)[kind] += 1
        image.objects.append(AnnotatedObject(row["category_id"], segmentation, crowd and not crowds_are_instances))
    repeated = sum(count - 1 for number, count in ids.items() if number is not None)
    seen.add("ids", "annotations share an id with another; they are told apart by their order", repeated)


def _segmentation(given: Any) -> Any:
    """COCO's segmentation, or None where there is none."""
    if isinstance(given, dict):
        return given if given.get("counts") else None
    if not isinstance(given, list) or not given:
        return None
    if all(isinstance(value, int | float) for value in given):  # one polygon, not in a list of its own
        given = [given]
    parts = [part for part in given if isinstance(part, list) and len(part) >= 6]
    return parts or None
