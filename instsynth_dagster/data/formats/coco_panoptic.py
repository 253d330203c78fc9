"""COCO panoptic: a JSON file of segments, and for each image a PNG whose colours encode their ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from instsynth_dagster.data.annotated import Annotated, AnnotatedImage, Category, ImageFolder
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.coco import check_lists, join_categories, read_categories, rows_of, side
from instsynth_dagster.data.formats.files import codes_of, existing_folder, in_threads, is_set, read_json, read_map
from instsynth_dagster.errors import DatasetError

Segments = dict[int, dict[str, Any]]
"""Run-length code of each segment id of a PNG."""


def read_coco_panoptic(
    files: Mapping[str | None, Path], folder: ImageFolder, masks: Mapping[str | None, Path]
) -> Annotated:
    """A data set of one or several panoptic JSON files.

    Args:
        masks: folders of the PNGs by split.

    Raises:
        UnreadableError: a file or folder is missing.
        DatasetError: a JSON is no panoptic one, or a PNG does not hold the segments that the JSON lists.
    """
    categories: dict[int, Category] = {}
    found = Collected(folder)
    for split, path in files.items():
        data = read_json(path)
        check_lists(path, data, "COCO panoptic file", ("images", "annotations", "categories"))
        join_categories(categories, path, read_categories(path, data, (), found))
        images = _images(path, data, split, found)
        place = existing_folder(masks[split])
        _segments(path, data, images, place, categories, found)
    return found.annotated(list(files.values()), list(categories.values()), unlabeled_is_void=True)


def _images(path: Path, data: dict[str, Any], split: str | None, found: Collected) -> dict[Any, AnnotatedImage | None]:
    images: dict[Any, AnnotatedImage | None] = {}
    for row in rows_of(path, data, "images", ("id", "file_name")):
        name = str(row["file_name"])
        size = (side(path, row, "width", name), side(path, row, "height", name))
        images[row["id"]] = found.image(path, name, split, size, row["id"])
    return images


def _segments(
    path: Path,
    data: dict[str, Any],
    images: Mapping[Any, AnnotatedImage | None],
    place: Path,
    categories: Mapping[int, Category],
    found: Collected,
) -> None:
    rows = []
    for number, row in enumerate(rows_of(path, data, "annotations", ("image_id", "file_name", "segments_info"))):
        check_lists(path, row, f"COCO panoptic file in annotations[{number}]", ("segments_info",))
        if row["image_id"] not in images:
            found.note("orphan", "annotations belong to no listed image and are left out")
        elif images[row["image_id"]] is not None:
            rows.append(row)

    def read(row: dict[str, Any]) -> Segments:
        return _codes(place / str(row["file_name"]))

    for row, codes in zip(rows, in_threads(read, rows), strict=True):
        image = images[row["image_id"]]
        assert image is not None, "left out above"
        about = f"segments_info of {row['file_name']!r}"
        segments = rows_of(path, {about: row["segments_info"]}, about, ("id", "category_id"))
        listed: dict[Any, dict[str, Any]] = {segment["id"]: segment for segment in segments}
        unlisted: list[int] = sorted(set(codes) - set(listed) - {0})
        if unlisted:
            raise DatasetError(
                f"{place / str(row['file_name'])}: holds the segment {unlisted[0]}, which {path} does not list"
            )
        for value, segment in listed.items():
            if segment["category_id"] not in categories:
                found.note("category", "annotations name no listed category and are left out")
                continue
            found.add(image, segment["category_id"], codes.get(value), is_set(segment.get("iscrowd")))


def _codes(path: Path) -> Segments:
    """Segments of a PNG whose ids are red + 256 * green + 65536 * blue."""
    values, mode = read_map(path)
    if mode not in ("RGB", "RGBA"):
        raise DatasetError(f"{path}: a panoptic PNG must be RGB, this one has mode {mode}")
    red, green, blue = values >> 16 & 255, values >> 8 & 255, values & 255
    return codes_of(red | green << 8 | blue << 16)
