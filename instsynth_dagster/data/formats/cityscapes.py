"""The Cityscapes layout: label table, checked reading, and writing."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.data.formats.polygons import stacked_outlines
from instsynth_dagster.data.images import decode_as_encoded, encode_png, png_size
from instsynth_dagster.data.instances import instance_areas
from instsynth_dagster.data.labels import Label, LabelTable
from instsynth_dagster.data.reading import MAX_PIXELS, decoded, is_image_name
from instsynth_dagster.errors import DatasetError


def _label(name: str, label_id: int, void: bool, color: tuple[int, int, int], instances: bool = False) -> Label:
    return Label(name, label_id, instances, void, color)


CITYSCAPES = LabelTable(
    (
        _label("unlabeled", 0, True, (0, 0, 0)),
        _label("ego vehicle", 1, True, (0, 0, 0)),
        _label("rectification border", 2, True, (0, 0, 0)),
        _label("out of roi", 3, True, (0, 0, 0)),
        _label("static", 4, True, (0, 0, 0)),
        _label("dynamic", 5, True, (111, 74, 0)),
        _label("ground", 6, True, (81, 0, 81)),
        _label("road", 7, False, (128, 64, 128)),
        _label("sidewalk", 8, False, (244, 35, 232)),
        _label("parking", 9, True, (250, 170, 160)),
        _label("rail track", 10, True, (230, 150, 140)),
        _label("building", 11, False, (70, 70, 70)),
        _label("wall", 12, False, (102, 102, 156)),
        _label("fence", 13, False, (190, 153, 153)),
        _label("guard rail", 14, True, (180, 165, 180)),
        _label("bridge", 15, True, (150, 100, 100)),
        _label("tunnel", 16, True, (150, 120, 90)),
        _label("pole", 17, False, (153, 153, 153)),
        _label("polegroup", 18, True, (153, 153, 153)),
        _label("traffic light", 19, False, (250, 170, 30)),
        _label("traffic sign", 20, False, (220, 220, 0)),
        _label("vegetation", 21, False, (107, 142, 35)),
        _label("terrain", 22, False, (152, 251, 152)),
        _label("sky", 23, False, (70, 130, 180)),
        _label("person", 24, False, (220, 20, 60), True),
        _label("rider", 25, False, (255, 0, 0), True),
        _label("car", 26, False, (0, 0, 142), True),
        _label("truck", 27, False, (0, 0, 70), True),
        _label("bus", 28, False, (0, 60, 100), True),
        _label("caravan", 29, True, (0, 0, 90), True),
        _label("trailer", 30, True, (0, 0, 110), True),
        _label("train", 31, False, (0, 80, 100), True),
        _label("motorcycle", 32, False, (0, 0, 230), True),
        _label("bicycle", 33, False, (119, 11, 32), True),
    )
)
"""The official label table, with eight evaluated instance classes."""


@dataclass(frozen=True)
class Frame:
    """One image with its id map, for example frame_id `aachen_000000_000019`."""

    frame_id: str
    split: str
    city: str
    image: Path
    ids: Path


def list_frames(root: Path, city: str) -> list[Frame]:
    """Frames of a city, sorted; its split is the folder below leftImg8bit/ that holds it.

    Raises:
        DatasetError: the city is missing, empty, or in two splits; an image or id map lacks its counterpart; or a name
            is not `<city>_<a>_<b>`.
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
    images = {path.name.removesuffix("_leftImg8bit.png"): path for path in _named(folder, "_leftImg8bit.png", True)}
    ids = {
        path.name.removesuffix("_gtFine_instanceIds.png"): path for path in _named(labels, "_gtFine_instanceIds.png")
    }
    if not images:
        raise DatasetError(f"{folder}: no *_leftImg8bit.png in it; remove the city from the params or add its frames")
    for frame_id in sorted(images.keys() ^ ids.keys()):
        if frame_id in images:
            raise DatasetError(f"{images[frame_id]}: no {labels / (frame_id + '_gtFine_instanceIds.png')} beside it")
        raise DatasetError(f"{ids[frame_id]}: no {folder / (frame_id + '_leftImg8bit.png')} beside it")
    for frame_id in sorted(images):
        _check_frame_id(images[frame_id], frame_id, city)
    return [Frame(frame_id, split, city, images[frame_id], ids[frame_id]) for frame_id in sorted(images)]


def _named(folder: Path, suffix: str, alone: bool = False) -> list[Path]:
    """Files of a folder whose names end with `suffix`, sorted, without hidden files and the metadata files of macOS
    (`._*`).

    Args:
        alone: whether the folder holds no images of other names.

    Raises:
        DatasetError: a file has that ending in other letter case, or is an image of another name, and would be ignored.
    """
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        if path.name.endswith(suffix):
            found.append(path)
        elif path.name.lower().endswith(suffix.lower()) or (alone and is_image_name(path.name)):
            raise DatasetError(f"{path}: would be ignored, frames here are called *{suffix}; convert or rename it")
    return found


def list_semantic_frames(root: Path, city: str) -> list[Frame]:
    """Frames of a city that has label maps only, sorted; `ids` is the *_gtFine_labelIds.png.

    Raises:
        DatasetError: the city is missing or empty, an image lacks its label map, or a name is not `<city>_<a>_<b>`.
    """
    _check_city(city)
    folders = sorted(path for path in Path(root).glob(f"leftImg8bit/*/{city}") if path.is_dir())
    images = [path for folder in folders for path in _named(folder, "_leftImg8bit.png", True)]
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


LABEL_FILES = (
    "instanceIds.png",
    "labelIds.png",
    "instanceTrainIds.png",
    "labelTrainIds.png",
    "color.png",
    "polygons.json",
)
"""Label files of a frame in this layout; none of them shows the frame."""


def label_files(instance_ids: Path) -> list[Path]:
    """The existing label files of a frame, of which `instance_ids` is one."""
    beginning = instance_ids.name.removesuffix(LABEL_FILES[0])
    return [path for name in LABEL_FILES if (path := instance_ids.with_name(f"{beginning}{name}")).is_file()]


def city_of(frame_id: str) -> str:
    """The city in a frame id: `my_town` of `my_town_000000_000019`."""
    return frame_id.rsplit("_", 2)[0]


_CITY = re.compile(r"[a-z0-9][a-z0-9_-]*")


def _check_city(city: str) -> None:
    if not _CITY.fullmatch(city):
        raise DatasetError(f"{city!r}: not a usable city name; use a-z, 0-9, - and _")


def _check_frame_id(path: Path, frame_id: str, city: str) -> None:
    """Check a frame id, which becomes part of ids, table keys and file names of exports."""
    if not re.fullmatch(rf"{city}_[A-Za-z0-9-]+_[A-Za-z0-9-]+", frame_id):
        raise DatasetError(f"{path}: a frame of this folder must be called {city}_<a>_<b>, of letters, digits and -")


def read_label_ids(path: Path, labels: LabelTable = CITYSCAPES) -> np.ndarray:
    """uint8 (H, W) of an 8-bit *_labelIds.png.

    Raises:
        DatasetError: it cannot be decoded, or holds unknown labels.
    """
    image = _decode(path)
    if image.mode not in ("L", "P"):
        raise DatasetError(f"{path}: a label map must be an 8-bit PNG, this one has mode {image.mode}")
    label_map = np.asarray(image)
    unknown = np.setdiff1d(np.unique(label_map), list(labels.by_id))
    if unknown.size:
        raise DatasetError(
            f"{path}: {unknown[0]} is no label id of the data set's table; export labelIds, not trainIds"
        )
    return label_map


def read_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB of an image.

    Raises:
        DatasetError: the file cannot be decoded completely, or has more than 8 bits a channel.
    """
    pixels = _as_written(path)
    if pixels is not None and pixels.ndim == 3:
        return pixels
    image = _decode(path)
    if image.mode not in ("RGB", "RGBA", "L", "LA", "P", "PA", "1"):
        raise DatasetError(f"{path}: an image must have 8 bits a channel, this one has mode {image.mode}")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_ids(path: Path, labels: LabelTable = CITYSCAPES) -> np.ndarray:
    """int32 (H, W) instance ids of a 16- or 32-bit PNG.

    Raises:
        DatasetError: the file cannot be decoded, is an 8-bit map (ids would be truncated), or holds unknown labels.
    """
    pixels = _as_written(path)
    if pixels is None or pixels.dtype != np.uint16:
        image = _decode(path)
        if image.mode not in ("I;16", "I;16B", "I"):
            raise DatasetError(
                f"{path}: an 8-bit id map (mode {image.mode}); ids above 255 were cut off, export it as 16-bit PNG"
            )
        pixels = np.asarray(image)
    ids = pixels.astype(np.int32)
    unknown = _unknown_values(ids, labels)
    if unknown.size:
        raise DatasetError(f"{path}: id {unknown[0]} belongs to no label of the data set's table")
    return ids


def read_frame(frame: Frame, labels: LabelTable = CITYSCAPES) -> tuple[np.ndarray, np.ndarray]:
    """(image, ids) of a frame, both checked and of equal size."""
    image, ids = read_image(frame.image), read_ids(frame.ids, labels)
    if image.shape[:2] != ids.shape:
        (height, width), (ids_height, ids_width) = image.shape[:2], ids.shape
        raise DatasetError(f"{frame.ids}: {ids_width}x{ids_height} pixels, but its image has {width}x{height}")
    return image, ids


def _as_written(path: Path) -> np.ndarray | None:
    """Pixels of a PNG that `write_frame` wrote; None for any other file, and for one that cannot be read."""
    try:
        png = path.read_bytes() if path.is_file() else b""  # reading a named pipe would not end
    except OSError:  # reported by `_decode`
        return None
    return decode_as_encoded(png) if math.prod(png_size(png)) <= MAX_PIXELS else None


def _decode(path: Path) -> Image.Image:
    """A PNG in its own mode, checked for an EXIF orientation."""
    image, orientation = decoded(path, ("PNG",))
    if orientation != 1:
        raise DatasetError(
            f"{path}: EXIF orientation {orientation}; images and id maps of this layout are stored as they are shown: "
            "turn the pixels and remove the tag"
        )
    return image


def write_frame(
    root: Path,
    split: str,
    frame_id: str,
    image: np.ndarray,
    ids: np.ndarray,
    labels: LabelTable = CITYSCAPES,
    portable: bool = False,
) -> None:
    """Write image, instanceIds (16-bit), labelIds and polygons of one frame, each file whole or not at all.

    Args:
        image: uint8 (H, W, 3) RGB.
        ids: integer (H, W), values of the label table.
        portable: whether the bytes are the same on every machine (`encode_png`).

    Raises:
        DatasetError: the layout cannot represent the frame; nothing was written.
    """
    city = city_of(frame_id)
    _check_writable(split, frame_id, image, ids, labels)
    image_folder, label_folder = Path(root) / "leftImg8bit" / split / city, Path(root) / "gtFine" / split / city
    files = {
        image_folder / f"{frame_id}_leftImg8bit.png": encode_png(image, portable),
        label_folder / f"{frame_id}_gtFine_instanceIds.png": encode_png(ids.astype(np.uint16), portable),
        label_folder / f"{frame_id}_gtFine_labelIds.png": encode_png(labels.label_ids(ids).astype(np.uint8), portable),
        label_folder / f"{frame_id}_gtFine_polygons.json": json.dumps(polygons(ids, labels)).encode(),
    }
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)


def _check_writable(split: str, frame_id: str, image: np.ndarray, ids: np.ndarray, labels: LabelTable) -> None:
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
    unknown = _unknown_values(ids, labels)
    if unknown.size:
        raise DatasetError(f"{about}: id {unknown[0]} belongs to no label of the data set's table")
    if ids.max(initial=0) >= 1 << 16 or labels.label_ids(ids).max(initial=0) >= 1 << 8:
        raise DatasetError(f"{about}: id {ids.max()} does not fit the 16-bit PNG of this layout; export COCO instead")


def _unknown_values(ids: np.ndarray, labels: LabelTable) -> np.ndarray:
    """Values of an id map that the label table does not contain, ascending."""
    values = np.array(list(instance_areas(ids)), dtype=np.int64)
    known = np.where(
        labels.is_instance(values),
        np.isin(labels.label_ids(values), labels.thing_ids),
        np.isin(values, list(labels.by_id)),
    )
    return values[~known]


def polygons(ids: np.ndarray, labels: LabelTable = CITYSCAPES) -> dict[str, Any]:
    """The official polygons.json of an id map, from which the official scripts redraw it (`stacked_outlines`).

    The label map is reproduced exactly, and so is the number of instances of every class. The file holds neither
    instance numbers nor several polygons for one instance: numbers are assigned anew, and of an instance in several
    parts the largest is the instance while the others are a group of its class (`cargroup`), which evaluation ignores.
    The id map beside it holds the full information.
    """
    objects = []
    for outline in stacked_outlines(ids.astype(np.int32), labels.label_id):
        label = labels.label_of(outline.value)
        name = f"{label.name}group" if label.has_instances and outline.value < labels.factor else label.name
        objects.append({"label": name, "polygon": outline.corners.tolist()})
    return {"imgHeight": ids.shape[0], "imgWidth": ids.shape[1], "objects": objects}
