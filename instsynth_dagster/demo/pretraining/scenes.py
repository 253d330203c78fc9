"""Street scenes with labelled boxes: what the demo's vision models are pretrained on.

The scenes come from the demo city's renderer under seeds that no demo city uses, with rare classes made common. Only
classes, colours and boxes are kept, and the stuff outside the boxes; instance masks never leave the renderer, so a
segmenter pretrained here has yet to see one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.data.images import decode_png, encode_png, resize_image
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.segmenters.contract import Progress, SegmentationDataset, get_segmenter
from instsynth_dagster.settings import SegmenterSettings

ASSET = "pretraining_scenes"
SIZE = (512, 256)
"""Width and height of a scene, pixels."""
CLASS_WEIGHTS = {"rider": 2.0, "truck": 4.0, "bus": 4.0, "train": 5.0, "motorcycle": 4.0, "bicycle": 2.0}
SCENES = 2200
MIN_SIDE = 12
"""Shorter side, in pixels, of the smallest box that becomes a crop."""


def render_scenes(
    store: Store, count: int, *, palette: str = "full", seed: int = 0, progress: Progress | None = None
) -> None:
    """Render scenes in a palette of the demo city into the store, going on where a killed run stopped; nothing to do
    when they are there. The same seed draws the same streets in any palette."""
    from instsynth_dagster.demo.city import render_scene

    fingerprint = f"{content_seed('scenes with stuff', seed, count, palette, *SIZE, repr(CLASS_WEIGHTS)):016x}"
    manifest = store.manifest(ASSET)
    if manifest and manifest.fingerprint == fingerprint:
        return
    with store.write(ASSET, "all", fingerprint) as out:
        for index in range(out.rows, count):
            number = content_seed("pretraining scene", seed, index)
            scene = render_scene(number, *SIZE, class_weights=CLASS_WEIGHTS, palette=palette)
            boxes = labelled_boxes(scene.ids, scene.attributes)
            out.add(
                {
                    "image_png": encode_png(scene.image),
                    "stuff_png": encode_png(stuff_around(scene.ids, boxes)),
                    "boxes": boxes,
                }
            )
            if progress:
                progress(index + 1, count)


def labelled_boxes(ids: np.ndarray, attributes: Mapping[int, Any]) -> list[dict[str, Any]]:
    """Tight boxes (x2, y2 exclusive, pixels) of the instances in an id map (H, W), with class and colour."""
    values, inverse = np.unique(ids, return_inverse=True)
    boxes = []
    for value, (rows, columns) in zip(
        values.tolist(), ndimage.find_objects(inverse.reshape(ids.shape) + 1), strict=True
    ):
        if value in attributes:
            about = {"value": value, "class_name": attributes[value].class_name, "color": attributes[value].color}
            boxes.append(about | {"x1": columns.start, "y1": rows.start, "x2": columns.stop, "y2": rows.stop})
    return boxes


def stuff_around(ids: np.ndarray, boxes: list[dict[str, Any]]) -> np.ndarray:
    """Label ids uint8 (H, W) of an id map's stuff; 0 in every box, whatever shape is inside, and in groups."""
    stuff = np.where(ids < CITYSCAPES.by_name["person"].id, ids, 0).astype(np.uint8)
    for box in boxes:
        stuff[box["y1"] : box["y2"], box["x1"] : box["x2"]] = 0
    return stuff


class BoxScenes:
    """`SegmentationDataset` of scenes [start, stop): every instance's "mask" is its box, smaller boxes on top; around
    the boxes the ids of the stuff."""

    labels = CITYSCAPES

    def __init__(self, store: Store, start: int = 0, stop: int | None = None) -> None:
        self._range = range(store.require(ASSET).rows)[start:stop]
        self._parts = store.parts(ASSET)

    @cached_property
    def is_synthetic(self) -> np.ndarray:
        return np.zeros(len(self), dtype=bool)

    @property
    def classes_in(self) -> np.ndarray:
        """bool (N, 8), from the boxes."""
        found = [{box["class_name"] for box in self._row(index)["boxes"]} for index in range(len(self))]
        return np.array([[name in names for name in CITYSCAPES.classes] for names in found])

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        row = self._row(index)
        image, boxes = decode_png(row["image_png"]), row["boxes"]
        ids = decode_png(row["stuff_png"]).astype(np.int32)
        for box in sorted(boxes, key=lambda b: ((b["x1"] - b["x2"]) * (b["y2"] - b["y1"]), b["value"])):
            ids[box["y1"] : box["y2"], box["x1"] : box["x2"]] = box["value"]
        return image, ids

    def read(self, index: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """uint8 (H, W, 3) image and its `labelled_boxes`."""
        row = self._row(index)
        return decode_png(row["image_png"]), row["boxes"]

    def _row(self, index: int) -> dict[str, Any]:
        return self._parts[self._range[index]]


def instance_crops(scenes: BoxScenes, side: int, margin: float = 0.2) -> Iterator[tuple[np.ndarray, str]]:
    """Square crops uint8 (side, side, 3) around the boxes, shifted inside the scene, each with a name ("red car")."""
    for index in range(len(scenes)):
        image, boxes = scenes.read(index)
        height, width = image.shape[:2]
        for box in boxes:
            box_width, box_height = box["x2"] - box["x1"], box["y2"] - box["y1"]
            if box["class_name"] in CITYSCAPES.classes and min(box_width, box_height) >= MIN_SIDE:
                square = min(round(max(box_width, box_height) * (1 + 2 * margin)), height, width)
                x = int(np.clip((box["x1"] + box["x2"] - square) // 2, 0, width - square))
                y = int(np.clip((box["y1"] + box["y2"] - square) // 2, 0, height - square))
                crop = resize_image(image[y : y + square, x : x + square], (side, side))
                yield crop, f"{box['color']} {box['class_name']}"


def box_ap50(
    folder: Path, recipe: SegmenterSettings, scenes: SegmentationDataset, classes: Sequence[str] = CITYSCAPES.classes
) -> float:
    """AP50 (0..1) of the boxes that a checkpoint predicts, Cityscapes protocol."""
    from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame

    predictor = get_segmenter(recipe.kind).load(folder, recipe, labels=CITYSCAPES)
    matches = []
    for index in range(len(scenes)):
        image, ids = scenes[index]
        (table,) = predictor.predict([image])
        matches.append(match_frame(ids, table, labels=CITYSCAPES))
    return average_precision(matches, classes).ap50
