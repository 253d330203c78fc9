"""Windows in further formats, beside the COCO JSON of an export: YOLO polygons and COCO panoptic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from instsynth_dagster.data.formats.yolo import label_file
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.data.labels import Label, LabelTable
from instsynth_dagster.data.masks import mask_box
from instsynth_dagster.data.outlines import exact_polygon

YOLO_YAML = "data.yaml"
PANOPTIC_JSON = "annotations/panoptic_train.json"


class YoloFiles:
    """Writer of a data.yaml and of a file of polygons for each window, where Ultralytics expects them.

    Groups are left out, because the format cannot mark them. The data.yaml names no val split: windows are for training
    beside annotated images.

    Args:
        folder: of the export.
        images: folder of the windows, relative to the export.
    """

    def __init__(self, folder: Path, labels: LabelTable, images: str) -> None:
        self._folder, self._labels = folder, labels
        self._numbers = yolo_numbers(labels)
        config = {"train": images, "names": {number: name for name, number in self._numbers.items()}}
        (folder / YOLO_YAML).write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def add(self, file_name: str, ids: np.ndarray) -> None:
        """Write a window, given by its path below the export and its id map (H, W)."""
        height, width = ids.shape
        lines = []
        for value in np.unique(ids[self._labels.is_instance(ids)]).tolist():
            name = self._labels.label_of(value).name
            if name in self._numbers:
                corners = np.reshape(exact_polygon(ids == value), (-1, 2)) / (width, height)
                lines.append(" ".join([str(self._numbers[name]), *(f"{share:.6f}" for share in corners.ravel())]))
        path = label_file(self._folder / file_name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))


def yolo_numbers(labels: LabelTable) -> dict[str, int]:
    """Class numbers from 0: the data set's own ids where these are 0 to n - 1, else the order of the classes."""
    own = {labels[name].category_id: name for name in labels.classes}
    if sorted(own) == list(range(len(labels.classes))):
        return {own[number]: number for number in sorted(own)}
    return {name: number for number, name in enumerate(labels.classes)}


class PanopticFiles:
    """Writer of COCO panoptic: a JSON, and beside it a folder of PNGs whose colours encode segment ids.

    Groups of things are crowds; void pixels, and labels that are no category of the data set, are 0.
    """

    def __init__(self, folder: Path, labels: LabelTable) -> None:
        self._path, self._labels = folder / PANOPTIC_JSON, labels
        self._pictures = self._path.with_suffix("")
        self._pictures.mkdir(parents=True)
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, file_name: str, ids: np.ndarray) -> None:
        """Write a window, given by its path below the export and its id map (H, W)."""
        values, places = np.unique(ids, return_inverse=True)
        numbers = np.zeros(len(values), dtype=np.int64)
        segments: list[dict[str, Any]] = []
        for index, value in enumerate(values.tolist()):
            label = self._labels.label_of(value)
            if not _is_category(label):
                continue
            mask = ids == value
            x1, y1, x2, y2 = mask_box(mask)
            numbers[index] = len(segments) + 1
            segments.append(
                {
                    "id": len(segments) + 1,
                    "category_id": label.category_id,
                    "area": int(mask.sum()),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "iscrowd": int(label.has_instances and value < self._labels.factor),
                }
            )
        segment = numbers[places].reshape(ids.shape)
        colours = np.stack([segment & 255, segment >> 8 & 255, segment >> 16], axis=-1).astype(np.uint8)
        name = f"{Path(file_name).stem}.png"
        (self._pictures / name).write_bytes(encode_png(colours))
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": file_name, "width": ids.shape[1], "height": ids.shape[0]})
        self._annotations.append({"image_id": number, "file_name": name, "segments_info": segments})

    def finish(self) -> None:
        """Write the JSON."""
        categories = [_category(label) for label in self._labels.labels if _is_category(label)]
        data = {"info": {}, "images": self._images, "annotations": self._annotations, "categories": categories}
        self._path.write_text(json.dumps(data))


def _is_category(label: Label) -> bool:
    """Whether a label is evaluated and one of the data set's own; the background of annotated objects is not."""
    return not label.ignore_in_eval and (label.id != 0 or label.source_id is not None)


def _category(label: Label) -> Mapping[str, Any]:
    supercategory = {"supercategory": label.supercategory} if label.supercategory else {}
    isthing = int(label.has_instances)
    return {
        "id": label.category_id,
        "name": label.name,
        "isthing": isthing,
        "color": list(label.color),
        **supercategory,
    }
