"""COCO data sets that tests write: from id maps in Cityscapes layout, and drawn from scratch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, read_ids
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.data.masks import encode_rle


def coco_of_tree(root: Path, split: str) -> dict[str, Any]:
    """A COCO file of the frames of a split of a Cityscapes tree; file names are below `leftImg8bit`."""
    images, annotations = [], []
    for number, path in enumerate(sorted((root / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")), 1):
        city, name = path.parent.name, path.name.replace("_leftImg8bit.png", "_gtFine_instanceIds.png")
        ids = read_ids(root / "gtFine" / split / city / name)
        below = path.relative_to(root / "leftImg8bit").as_posix()
        images.append({"id": number, "file_name": below, "width": ids.shape[1], "height": ids.shape[0]})
        for row in instance_index(ids, CITYSCAPES).to_dict("records"):
            code = encode_rle(ids == row["value"])
            annotations.append(annotation(len(annotations) + 1, number, row["label_id"], code, int(row["is_group"])))
    categories = [{"id": label.id, "name": label.name} for label in CITYSCAPES.labels if label.has_instances]
    return {"images": images, "annotations": annotations, "categories": categories}


def annotation(number: int, image: Any, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": segmentation,
        "iscrowd": crowd,
    }


def box(x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """A rectangle as one polygon."""
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def write(path: Path, images: Iterable[Any], annotations: Iterable[Any], names: Sequence[str] = ("cone",)) -> Path:
    """A COCO file; `images` are (id, file name, width, height)."""
    keys = ("id", "file_name", "width", "height")
    data = {
        "images": [dict(zip(keys, image, strict=False)) if isinstance(image, tuple) else image for image in images],
        "annotations": list(annotations),
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def picture(path: Path, size: tuple[int, int], seed: int = 0, **options: Any) -> Path:
    """An image file of (width, height) with a gradient and some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ramp = np.linspace(40, 200, size[0])[None, :, None] * np.linspace(0.4, 1, size[1])[:, None, None]
    blocks = np.kron(rng.normal(0, 40, (5, 6)), np.ones((size[1] // 5 + 1, size[0] // 6 + 1)))[
        : size[1], : size[0], None
    ]
    noise = rng.normal(0, 6, (size[1], size[0], 3)) + blocks
    pixels = np.clip(ramp * rng.uniform(0.6, 1.2, 3) + noise, 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path, **options)
    return path


def garden(root: Path, images: int = 12, size: tuple[int, int] = (160, 120)) -> Path:
    """Photos of traffic cones, umbrellas and polyps in three folders, phone JPEGs, as one COCO file; its path."""
    rng = np.random.default_rng(5)
    names, listed, annotations = ("traffic cone", "umbrella", "colon polyp"), [], []
    for number in range(images):
        file = f"site {number % 3}/IMG {number:03}.JPG"
        path = picture(root / "images" / file, size, seed=number, format="JPEG")
        pixels = np.array(Image.open(path))
        listed.append((number + 1, file, *size))
        for place in range(3):
            x, y = 10 + 50 * place + int(rng.integers(0, 8)), 30 + int(rng.integers(0, 30))
            category = (number + place) % 3 + 1
            corners = np.array([[x + 15, y], [x + 32, y + 46], [x, y + 46]])
            pixels = cv2.fillPoly(pixels.copy(), [corners], rng.integers(0, 255, 3).tolist())
            annotations.append(
                annotation(len(annotations) + 1, number + 1, category, [corners.ravel().astype(float).tolist()])
            )
        Image.fromarray(pixels).save(path, format="JPEG", quality=92)
    return write(root / "annotations.json", listed, annotations, names)
