"""Mapillary Vistas: 16-bit PNGs of `label * 256 + instance` and a configuration that lists the labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instsynth_dagster.data.annotated import Annotated, Category, ImageFolder
from instsynth_dagster.data.collected import Collected
from instsynth_dagster.data.formats.coco import check_lists, rows_of
from instsynth_dagster.data.formats.files import codes_of, in_threads, read_json, read_map
from instsynth_dagster.errors import DatasetError, UnreadableError

SPLITS = {"train": "training", "val": "validation"}
_STEP = 256
_FIRST = 1
"""Category id of the first label, which has the number 0 in the maps."""


def read_mapillary(root: Path, folder: ImageFolder, version: str | None = None) -> Annotated:
    """A data set of the folder that holds `training`, `validation` and a `config*.json`.

    Args:
        folder: folder of the images, `root` or one in it.
        version: `v1.2` or `v2.0` where both exist.

    Raises:
        UnreadableError: a folder or file is missing.
        DatasetError: the configuration lists no labels, or a PNG is no 16-bit map of them.
    """
    config = _config(root, version)
    categories = _categories(config)
    found = Collected(folder)
    things = {c.id for c in categories if c.has_instances}
    for split, name in SPLITS.items():
        maps = _maps(root / name, version)
        for path, (size, codes) in zip(maps, in_threads(_codes, maps), strict=True):
            image = found.image_of_stem(path, f"{name}/images/{path.stem}", split, size)
            for value, code in codes.items():
                number = value // _STEP + _FIRST
                if number - _FIRST >= len(categories):
                    raise DatasetError(f"{path}: the label {value // _STEP} is not in {config}")
                found.add(image, number, code, crowd=number not in things)
    return found.annotated([root], categories, unlabeled_is_void=True)


def _config(root: Path, version: str | None) -> Path:
    names = [f"config_{version}.json"] if version else ["config.json", "config_v1.2.json", "config_v2.0.json"]
    existing = [root / name for name in names if (root / name).is_file()]
    if not existing:
        raise UnreadableError(f"{root}: no {' or '.join(names)} in it; check dataset.annotations")
    if len(existing) > 1:
        raise DatasetError(f"{root}: holds {' and '.join(p.name for p in existing)}; name one in dataset.version")
    return existing[0]


def _categories(path: Path) -> list[Category]:
    data = read_json(path)
    check_lists(path, data, "configuration of Mapillary Vistas", ("labels",))
    rows: list[dict[str, Any]] = rows_of(path, data, "labels", ("readable", "instances"))
    return [
        Category(number, str(row["readable"]), None, bool(row["instances"]), not row.get("evaluate", True))
        for number, row in enumerate(rows, _FIRST)
    ]


def _maps(split: Path, version: str | None) -> list[Path]:
    """Instance maps of a split, in the folder that the release uses."""
    places = [split / version / "instances"] if version else []
    places += [split / "instances", *(() if version else sorted(split.glob("v*/instances")))]
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        if split.is_dir() or split.name == SPLITS["train"]:
            raise UnreadableError(f"{places[0]}: no such folder; check dataset.annotations")
        return []
    return sorted(place.glob("*.png"))


def _codes(path: Path) -> tuple[tuple[int, int], dict[int, dict[str, Any]]]:
    """(width, height) and the code of each value of a map."""
    values, mode = read_map(path)
    if mode not in ("I;16", "I;16B", "I"):
        raise DatasetError(f"{path}: an instance map must be a 16-bit PNG, this one has mode {mode}")
    height, width = values.shape
    return (width, height), codes_of(values)
