"""COCO JSON that is written as frames arrive, so that memory does not grow with their number."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import encode_rle, mask_box
from instsynth_dagster.data.originals import OriginalImage
from instsynth_dagster.data.rasterise import object_mask

_INFO = {"description": "Synthetic instances in focused windows", "version": "1.0"}
"""Without `info` and `licenses` pycocotools cannot load results for the file."""


ORIGINAL: Mapping[str, Any] = {"synthetic": False}


class CocoFile:
    """A COCO JSON at a path, written incrementally.

    Args:
        categories: as the data set's own files name them; default: the evaluated classes.
        marked: whether the annotations of repainted instances get the attributes too, not only their images.
        info: further entries of the JSON's `info`.
    """

    def __init__(
        self,
        path: Path,
        labels: LabelTable,
        categories: Sequence[Mapping[str, Any]] | None = None,
        marked: bool = False,
        info: Mapping[str, Any] | None = None,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        named = [{"id": labels[name].category_id, "name": name} for name in labels.classes]
        self._labels, self._categories = labels, named if categories is None else list(categories)
        self._path, self._marked, self._info = path, marked, {**_INFO, **(info or {})}
        self._image, self._annotation = 0, 0
        """Largest ids so far."""
        self._images, self._annotations = 0, 0

    def __enter__(self) -> CocoFile:
        self._open = ExitStack()
        self._file = self._open.enter_context(self._path.open("w"))
        self._rest = self._open.enter_context(TemporaryFile("w+"))
        self._file.write(f'{{"info": {json.dumps(self._info)}, "licenses": [], "images": [')
        return self

    def add(self, file_name: str, ids: np.ndarray, attributes: Mapping[str, Any]) -> None:
        """Write an image and the annotations of its id map int32 (H, W); `attributes` are added to the image entry."""
        size = {"width": ids.shape[1], "height": ids.shape[0]}
        self._write_image(self._image + 1, {"file_name": file_name, **size, **attributes})
        target = int(str(attributes.get("source_instance", "")).rpartition(":")[2] or -1) if self._marked else -1
        for value, annotation in _masks(ids, self._labels):
            self._write_annotation(self._annotation + 1, {**annotation, **(attributes if value == target else {})})

    def add_original(
        self,
        file_name: str,
        image: OriginalImage,
        attributes: Mapping[str, Any] = ORIGINAL,
        repainted: int | None = None,
    ) -> int:
        """Write an image with its own annotations, keeping their ids where they have any; returns the image's id.

        Args:
            attributes: further entries of the image, and of the object with index `repainted`.
        """
        width, height = image.size
        number = self._image + 1 if image.source_id is None else image.source_id
        self._write_image(number, {"file_name": file_name, "width": width, "height": height, **attributes})
        for place, found in enumerate(image.objects):
            if found.label not in self._labels.classes:
                continue
            mask = object_mask(found.segmentation, (height, width))
            if not mask.any():
                continue
            annotation = {"category_id": self._labels[found.label].category_id, **_measured(mask)}
            annotation |= {"segmentation": found.segmentation, "iscrowd": int(found.crowd)}
            own = self._annotation + 1 if found.source_id is None else found.source_id
            self._write_annotation(own, {**annotation, **(attributes if place == repainted else {})})
        return number

    def _write_image(self, number: int, attributes: Mapping[str, Any]) -> None:
        self._file.write(", " * bool(self._images) + json.dumps({"id": number, **attributes}))
        self._images += 1
        self._current, self._image = number, max(self._image, number)

    def _write_annotation(self, number: int, attributes: Mapping[str, Any]) -> None:
        row = {"id": number, "image_id": self._current, **attributes}
        self._rest.write(", " * bool(self._annotations) + json.dumps(row))
        self._annotations += 1
        self._annotation = max(self._annotation, number)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None:
                self._file.write('], "annotations": [')
                self._rest.seek(0)
                shutil.copyfileobj(self._rest, self._file)
                self._file.write(f'], "categories": {json.dumps(self._categories)}}}')


def _masks(ids: np.ndarray, labels: LabelTable) -> Iterator[tuple[int, dict[str, Any]]]:
    """Values of the evaluated classes in an id map, and their annotations without ids."""
    for value in np.unique(ids).tolist():
        label = labels.label_of(value)
        if label.name not in labels.classes:
            continue
        mask = ids == value
        yield (
            value,
            {
                "category_id": label.category_id,
                "segmentation": encode_rle(mask),
                **_measured(mask),
                "iscrowd": int(value < labels.factor),
            },
        )


def _measured(mask: np.ndarray) -> dict[str, Any]:
    x1, y1, x2, y2 = mask_box(mask)
    return {"area": int(mask.sum()), "bbox": [x1, y1, x2 - x1, y2 - y1]}
