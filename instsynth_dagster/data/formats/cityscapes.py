"""The Cityscapes layout: label table, reading with checks, writing, and the index of instances."""

from __future__ import annotations

import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.data.formats.polygons import stacked_outlines
from instsynth_dagster.data.images import encode_png
from instsynth_dagster.errors import DatasetError, is_transient


@dataclass(frozen=True)
class Label:
    """A row of the official label table; `color` is RGB."""

    name: str
    id: int
    train_id: int
    has_instances: bool
    ignore_in_eval: bool
    color: tuple[int, int, int]


def _label(name: str, label_id: int, train_id: int, color: tuple[int, int, int], instances: bool = False) -> Label:
    return Label(name, label_id, train_id, instances, train_id == 255, color)


LABELS: tuple[Label, ...] = (
    _label("unlabeled", 0, 255, (0, 0, 0)),
    _label("ego vehicle", 1, 255, (0, 0, 0)),
    _label("rectification border", 2, 255, (0, 0, 0)),
    _label("out of roi", 3, 255, (0, 0, 0)),
    _label("static", 4, 255, (0, 0, 0)),
    _label("dynamic", 5, 255, (111, 74, 0)),
    _label("ground", 6, 255, (81, 0, 81)),
    _label("road", 7, 0, (128, 64, 128)),
    _label("sidewalk", 8, 1, (244, 35, 232)),
    _label("parking", 9, 255, (250, 170, 160)),
    _label("rail track", 10, 255, (230, 150, 140)),
    _label("building", 11, 2, (70, 70, 70)),
    _label("wall", 12, 3, (102, 102, 156)),
    _label("fence", 13, 4, (190, 153, 153)),
    _label("guard rail", 14, 255, (180, 165, 180)),
    _label("bridge", 15, 255, (150, 100, 100)),
    _label("tunnel", 16, 255, (150, 120, 90)),
    _label("pole", 17, 5, (153, 153, 153)),
    _label("polegroup", 18, 255, (153, 153, 153)),
    _label("traffic light", 19, 6, (250, 170, 30)),
    _label("traffic sign", 20, 7, (220, 220, 0)),
    _label("vegetation", 21, 8, (107, 142, 35)),
    _label("terrain", 22, 9, (152, 251, 152)),
    _label("sky", 23, 10, (70, 130, 180)),
    _label("person", 24, 11, (220, 20, 60), True),
    _label("rider", 25, 12, (255, 0, 0), True),
    _label("car", 26, 13, (0, 0, 142), True),
    _label("truck", 27, 14, (0, 0, 70), True),
    _label("bus", 28, 15, (0, 60, 100), True),
    _label("caravan", 29, 255, (0, 0, 90), True),
    _label("trailer", 30, 255, (0, 0, 110), True),
    _label("train", 31, 16, (0, 80, 100), True),
    _label("motorcycle", 32, 17, (0, 0, 230), True),
    _label("bicycle", 33, 18, (119, 11, 32), True),
)
LABEL_BY_NAME = {label.name: label for label in LABELS}
LABEL_BY_ID = {label.id: label for label in LABELS}
CLASSES = tuple(label.name for label in LABELS if label.has_instances and not label.ignore_in_eval)
"""The eight evaluated instance classes, in the official order."""

_INDEX_COLUMNS = {
    "value": "int64",
    "class_name": "object",
    "label_id": "int64",
    "is_group": "bool",
    "area": "int64",
    "x1": "int64",
    "y1": "int64",
    "x2": "int64",
    "y2": "int64",
    "touches_border": "bool",
    "components": "int64",
}


@dataclass(frozen=True)
class Frame:
    """One image with its id map, e.g. frame_id `aachen_000000_000019`."""

    frame_id: str
    split: str
    city: str
    image: Path
    ids: Path


def list_frames(root: Path, city: str) -> list[Frame]:
    """Frames of a city, sorted; its split is whichever holds it below leftImg8bit/.

    Raises:
        DatasetError: the city is missing, empty, stands in two splits, an image or id map lacks its partner, or a
            name is not `<city>_<a>_<b>`.
    """
    _check_city(city)
    folders = sorted(path for path in Path(root).glob(f"leftImg8bit/*/{city}") if path.is_dir())
    if not folders:
        raise DatasetError(
            f"{Path(root) / 'leftImg8bit'}: no split holds a folder {city!r}; check dataset.root and its cities"
        )
    if len(folders) > 1:
        raise DatasetError(f"{folders[1]}: {city!r} stands in two splits; a city belongs to one")
    folder, split = folders[0], folders[0].parent.name
    labels = Path(root) / "gtFine" / split / city
    images = {path.name.removesuffix("_leftImg8bit.png"): path for path in folder.glob("*_leftImg8bit.png")}
    ids = {path.name.removesuffix("_gtFine_instanceIds.png"): path for path in labels.glob("*_gtFine_instanceIds.png")}
    if not images:
        raise DatasetError(f"{folder}: no *_leftImg8bit.png in it; remove the city from the params or add its frames")
    for frame_id in sorted(images.keys() ^ ids.keys()):
        if frame_id in images:
            raise DatasetError(f"{images[frame_id]}: no {labels / (frame_id + '_gtFine_instanceIds.png')} beside it")
        raise DatasetError(f"{ids[frame_id]}: no {folder / (frame_id + '_leftImg8bit.png')} beside it")
    for frame_id in sorted(images):
        _check_frame_id(images[frame_id], frame_id, city)
    return [Frame(frame_id, split, city, images[frame_id], ids[frame_id]) for frame_id in sorted(images)]


def list_semantic_frames(root: Path, city: str) -> list[Frame]:
    """Frames of a city with label maps alone, sorted; `ids` is the *_gtFine_labelIds.png.

    Raises:
        DatasetError: the city is missing or empty, an image lacks its label map, or a name is not `<city>_<a>_<b>`.
    """
    _check_city(city)
    images = sorted(Path(root).glob(f"leftImg8bit/*/{city}/*_leftImg8bit.png"))
    if not images:
        raise DatasetError(f"{Path(root) / 'leftImg8bit'}: no split holds frames of {city!r}; check semantics.cities")
    frames = []
    for image in images:
        split, name = image.parts[-3], image.name.removesuffix("_leftImg8bit.png")
        _check_frame_id(image, name, city)
        labels = Path(root) / "gtFine" / split / city / f"{name}_gtFine_labelIds.png"
        if not labels.is_file():
            raise DatasetError(f"{image}: no {labels} beside it")
        frames.append(Frame(name, split, city, image, labels))
    return frames


def city_of(frame_id: str) -> str:
    """`my_town` of `my_town_000000_000019`."""
    return frame_id.rsplit("_", 2)[0]


_CITY = re.compile(r"[a-z0-9][a-z0-9_-]*")


def _check_city(city: str) -> None:
    if not _CITY.fullmatch(city):
        raise DatasetError(f"{city!r}: not a usable city name; use a-z, 0-9, - and _")


def _check_frame_id(path: Path, frame_id: str, city: str) -> None:
    """Names become ids, keys of tables and file names of exports."""
    if not re.fullmatch(rf"{city}_[A-Za-z0-9-]+_[A-Za-z0-9-]+", frame_id):
        raise DatasetError(f"{path}: a frame of this folder must be called {city}_<a>_<b>, of letters, digits and -")


def read_label_ids(path: Path) -> np.ndarray:
    """uint8 (H, W) of an 8-bit *_labelIds.png.

    Raises:
        DatasetError: it cannot be decoded, or names unknown labels.
    """
    image = _decode(path)
    if image.mode not in ("L", "P"):
        raise DatasetError(f"{path}: a label map must be an 8-bit PNG, this one has mode {image.mode}")
    labels = np.asarray(image)
    unknown = np.setdiff1d(np.unique(labels), list(LABEL_BY_ID))
    if unknown.size:
        raise DatasetError(
            f"{path}: {unknown[0]} is no label id of the Cityscapes table; export labelIds, not trainIds"
        )
    return labels


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB. Raises DatasetError when the file cannot be decoded whole or has more than 8 bits."""
    image = _decode(path)
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
        raise DatasetError(f"{path}: an image must have 8 bits a channel, this one has mode {image.mode}")
    return np.asarray(image.convert("RGB"))


def read_ids(path: Path) -> np.ndarray:
    """int32 (H, W) instance ids of a 16- or 32-bit PNG.

    Raises:
        DatasetError: the file cannot be decoded, is an 8-bit map (ids would be truncated), or names unknown labels.
    """
    image = _decode(path)
    if image.mode not in ("I;16", "I;16B", "I"):
        raise DatasetError(
            f"{path}: an 8-bit id map (mode {image.mode}); ids above 255 were cut off, export it as 16-bit PNG"
        )
    ids = np.asarray(image).astype(np.int32)
    unknown = _unknown_values(ids)
    if unknown.size:
        raise DatasetError(f"{path}: id {unknown[0]} belongs to no label of the Cityscapes table")
    return ids


def read_frame(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """(image, ids) of a frame, both checked and of one size."""
    image, ids = read_image(frame.image), read_ids(frame.ids)
    if image.shape[:2] != ids.shape:
        (height, width), (ids_height, ids_width) = image.shape[:2], ids.shape
        raise DatasetError(f"{frame.ids}: {ids_width}x{ids_height} pixels, but its image has {width}x{height}")
    return image, ids


warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # the bound below is ours
MAX_PIXELS = 1 << 26
"""Of an image; a header that declares more is a mistake or an attack, and nothing of it is decoded."""


def _decode(path: Path) -> Image.Image:
    if path.exists() and not path.is_file():
        raise DatasetError(f"{path}: not a file")
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DatasetError(
                    f"{path}: declares {image.width}x{image.height} pixels, at most {MAX_PIXELS} are read"
                )
            image.verify()  # checksums, which decoding by itself leaves unread
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return image
    except DatasetError:
        raise
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except Image.DecompressionBombError:
        raise DatasetError(f"{path}: declares more than the {MAX_PIXELS} pixels that are read") from None
    except Exception as error:  # a decoder fed with garbage raises nearly anything
        if is_transient(error):
            raise
        problem = getattr(error, "strerror", None)
        if problem:
            raise DatasetError(f"{path}: cannot be read ({problem})") from None
        raise DatasetError(f"{path}: not a whole PNG ({error or type(error).__name__}); fetch the file again") from None


def label_ids(ids: np.ndarray) -> np.ndarray:
    """uint8 (H, W) label ids of an instance id map."""
    return np.where(ids < 1000, ids, ids // 1000).astype(np.uint8)


def instance_areas(ids: np.ndarray) -> dict[int, int]:
    """Pixels of every value of an id map."""
    counts = np.bincount(ids.ravel())
    values = np.flatnonzero(counts)
    return dict(zip(values.tolist(), counts[values].tolist(), strict=True))


def instance_index(ids: np.ndarray) -> pd.DataFrame:
    """One row per instance or group of an int32 (H, W) id map, by value.

    Columns: value, class_name, label_id, is_group, area (pixels), x1, y1, x2, y2 (xyxy, x2/y2 exclusive),
    touches_border, components (8-connected).
    """
    thing = [label.id for label in LABELS if label.has_instances]
    is_thing = np.isin(label_ids(ids), thing)
    ys, xs = np.nonzero(is_thing)
    if not len(ys):
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _INDEX_COLUMNS.items()})
    values, inverse, area = np.unique(ids[ys, xs], return_inverse=True, return_counts=True)
    height, width = ids.shape
    low = np.full((len(values), 2), max(height, width))
    high = np.zeros((len(values), 2), dtype=np.int64)
    for axis, positions in enumerate((xs, ys)):
        np.minimum.at(low[:, axis], inverse, positions)
        np.maximum.at(high[:, axis], inverse, positions + 1)
    is_group = values < 1000
    labels = np.where(is_group, values, values // 1000)
    return pd.DataFrame(
        {
            "value": values,
            "class_name": [LABEL_BY_ID[label].name for label in labels],
            "label_id": labels,
            "is_group": is_group,
            "area": area,
            "x1": low[:, 0],
            "y1": low[:, 1],
            "x2": high[:, 0],
            "y2": high[:, 1],
            "touches_border": (low == 0).any(axis=1) | (high[:, 0] == width) | (high[:, 1] == height),
            "components": [
                len(component_masks(ids, int(v), (x1, y1, x2, y2)))
                for v, (x1, y1), (x2, y2) in zip(values, low, high, strict=True)
            ],
        }
    ).astype(_INDEX_COLUMNS)


def component_masks(ids: np.ndarray, value: int, box: tuple[int, int, int, int]) -> list[np.ndarray]:
    """8-connected components of one value as bool masks of its box (xyxy)."""
    x1, y1, x2, y2 = box
    count, components = cv2.connectedComponents((ids[y1:y2, x1:x2] == value).astype(np.uint8), connectivity=8)
    return [components == index for index in range(1, count)]


def write_frame(root: Path, split: str, frame_id: str, image: np.ndarray, ids: np.ndarray) -> None:
    """Write image, instanceIds (16-bit), labelIds and polygons of one frame, each file whole or not at all.

    Args:
        image: uint8 (H, W, 3) RGB.
        ids: integer (H, W), values of the label table.

    Raises:
        DatasetError: the layout cannot hold the frame; nothing was written.
    """
    city = city_of(frame_id)
    _check_writable(split, frame_id, image, ids)
    images, labels = Path(root) / "leftImg8bit" / split / city, Path(root) / "gtFine" / split / city
    files = {
        images / f"{frame_id}_leftImg8bit.png": encode_png(image),
        labels / f"{frame_id}_gtFine_instanceIds.png": encode_png(ids.astype(np.uint16)),
        labels / f"{frame_id}_gtFine_labelIds.png": encode_png(label_ids(ids)),
        labels / f"{frame_id}_gtFine_polygons.json": json.dumps(polygons(ids)).encode(),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)


def _check_writable(split: str, frame_id: str, image: np.ndarray, ids: np.ndarray) -> None:
    about = f"frame {frame_id!r} cannot be written"
    if not _CITY.fullmatch(split):
        raise DatasetError(f"{about}: {split!r} is no usable name of a split; use a-z, 0-9, - and _")
    city = city_of(frame_id)
    if not (_CITY.fullmatch(city) and re.fullmatch(rf"{city}_[A-Za-z0-9-]+_[A-Za-z0-9-]+", frame_id)):
        raise DatasetError(f"{about}: a frame is called <city>_<a>_<b>, the city of a-z, 0-9, - and _")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DatasetError(f"{about}: its image must be uint8 (H, W, 3), this one is {image.dtype} {image.shape}")
    if not np.issubdtype(ids.dtype, np.integer) or ids.shape != image.shape[:2]:
        raise DatasetError(
            f"{about}: its ids must be whole numbers of shape {image.shape[:2]}, these are {ids.dtype} {ids.shape}"
        )
    unknown = _unknown_values(ids)
    if unknown.size:
        raise DatasetError(f"{about}: id {unknown[0]} belongs to no label of the Cityscapes table")


def _unknown_values(ids: np.ndarray) -> np.ndarray:
    """Values of an id map that the label table does not know, rising."""
    values = np.unique(ids)
    with_instances = [label.id for label in LABELS if label.has_instances]
    known = np.where(values < 1000, np.isin(values, list(LABEL_BY_ID)), np.isin(values // 1000, with_instances))
    return values[~known]


def polygons(ids: np.ndarray) -> dict[str, Any]:
    """The official polygons.json of an id map; the official scripts redraw it from these (`stacked_outlines`).

    The label map comes back exactly, and of every class as many instances as there are. The file has neither instance
    numbers nor several polygons for one instance: numbers are given anew, and of an instance in several parts the
    largest is the instance while the others are a group of its class (`cargroup`), which evaluation ignores. The id map
    beside it holds what the file cannot.
    """
    objects = []
    for outline in stacked_outlines(ids.astype(np.int32), lambda value: value if value < 1000 else value // 1000):
        label = LABEL_BY_ID[outline.value if outline.value < 1000 else outline.value // 1000]
        name = f"{label.name}group" if label.has_instances and outline.value < 1000 else label.name
        objects.append({"label": name, "polygon": outline.corners.tolist()})
    return {"imgHeight": ids.shape[0], "imgWidth": ids.shape[1], "objects": objects}
