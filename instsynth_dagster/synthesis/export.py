"""Deliverables for other tools: COCO RLE JSON with its images, and a Cityscapes tree where the data are one."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, city_of, write_frame
from instsynth_dagster.data.images import decode_ids, decode_png
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.masks import encode_rle, mask_box
from instsynth_dagster.data.versions import files_below
from instsynth_dagster.errors import ArtifactError

_FRAME_ID = re.compile(r"[a-z0-9][a-z0-9_-]*_\d{6}_\d{6}")
MARK = ".instsynth-export"
"""File that marks a folder as made by an export: no other folder is ever replaced."""
_MARKED = "This folder was exported by instsynth-dagster and is replaced as a whole when the export is made again.\n"
COCO_JSON = "annotations/instances_train.json"
_INFO = {"description": "Synthetic instances in focused windows", "version": "1.0"}
"""Without `info` and `licenses` pycocotools cannot load results for the file."""


def write_export(
    rows: Iterable[Mapping[str, Any]],
    out: Path,
    labels: LabelTable = CITYSCAPES,
    *,
    tree: bool = True,
    categories: Sequence[Mapping[str, Any]] | None = None,
    split: str = "train",
) -> None:
    """Write synthetic frames with a COCO JSON; an older export is replaced when all is written.

    Args:
        rows: frame_id, image_png (RGB, as it is stored), ids_png; what else is in them of `TOLD` is told of an image.
        out: the export's folder.
        labels: of the data set.
        tree: whether frames are written as a Cityscapes tree, else as images/<frame_id>.<suffix> as they are stored.
        categories: of the COCO JSON, as the data set's own files have them; default: the evaluated classes.

    Raises:
        ArtifactError: the folder was not made by an export, or a frame id is none of Cityscapes'.
    """
    with staged_export(out) as staged:
        with CocoFile(staged / COCO_JSON, labels, categories) as coco:
            for row in rows:
                if not _FRAME_ID.fullmatch(row["frame_id"]):
                    raise ArtifactError(f"{row['frame_id']!r} is no Cityscapes frame id; nothing was exported")
                ids = decode_ids(row["ids_png"])
                if tree:
                    write_frame(staged, split, row["frame_id"], decode_png(row["image_png"]), ids, labels)
                    name = f"leftImg8bit/{split}/{city_of(row['frame_id'])}/{row['frame_id']}_leftImg8bit.png"
                else:
                    name = _write_image(staged, row)
                told = {TOLD[key]: row[key] for key in TOLD if row.get(key)}
                coco.add(name, ids, {"synthetic": True} | told)
        put_in_place(staged, out)


@contextmanager
def staged_export(out: Path) -> Iterator[Path]:
    """A new folder beside an export's, to be filled and then `put_in_place`; what is not is removed.

    Raises:
        ArtifactError: what lies at `out` was not made by an export.
    """
    _check_replaceable(out)
    staged = out.with_name(f"{out.name}.tmp-{uuid.uuid4().hex[:8]}")
    for left in out.parent.glob(f"{glob.escape(out.name)}.tmp-*"):  # by a killed run; a partition has one writer
        if _is_replaceable(left):
            shutil.rmtree(left)
    try:
        staged.mkdir(parents=True)
        (staged / MARK).write_text(_MARKED)
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def put_in_place(staged: Path, out: Path) -> None:
    """Replace an older export by the one that is staged.

    Raises:
        ArtifactError: what lies at `out` was not made by an export.
    """
    _check_replaceable(out)
    if out.exists():
        shutil.rmtree(out)
    os.replace(staged, out)


TOLD = {"prompt": "prompt", "source_frame": "source", "instance_id": "source_instance", "generator": "generator"}
"""Columns of windows, and what they are called in the COCO JSON."""
_SUFFIXES = {b"\x89PNG": "png", b"RIFF": "webp", b"\xff\xd8": "jpg"}


def _write_image(folder: Path, row: Mapping[str, Any]) -> str:
    """Write a window as it is stored; its path below the folder."""
    content = bytes(row["image_png"])
    suffix = next(name for mark, name in _SUFFIXES.items() if content.startswith(mark))
    path = folder / "images" / f"{row['frame_id']}.{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path.relative_to(folder).as_posix()


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder was made by an export, or holds nothing."""
    return folder.is_dir() and not folder.is_symlink() and ((folder / MARK).is_file() or not any(folder.iterdir()))


def _check_replaceable(out: Path) -> None:
    """Raises ArtifactError where something lies at `out` that no export has made."""
    if os.path.lexists(out) and not _is_replaceable(out):
        raise ArtifactError(
            f"{out}: not a folder that an export has made (it holds no {MARK}); move it away, or name another folder "
            "in artifacts.exports"
        )


def exported_files(out: Path) -> Iterator[tuple[str, str]]:
    """(path relative to `out`, sha256) of every file of an export but its mark."""
    for path in files_below(out):
        if path == out / MARK:
            continue
        yield path.relative_to(out).as_posix(), file_sha256(path)


class CocoFile:
    """A COCO JSON that is written while frames come in, so that memory does not grow with their number."""

    def __init__(self, path: Path, labels: LabelTable, categories: Sequence[Mapping[str, Any]] | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        named = [{"id": labels[name].category_id, "name": name} for name in labels.classes]
        self._labels, self._categories = labels, named if categories is None else list(categories)
        self._path, self._images, self._instances = path, 0, 0

    def __enter__(self) -> CocoFile:
        self._open = ExitStack()
        self._file = self._open.enter_context(self._path.open("w"))
        self._annotations = self._open.enter_context(TemporaryFile("w+"))
        self._file.write(f'{{"info": {json.dumps(_INFO)}, "licenses": [], "images": [')
        return self

    def add(self, file_name: str, ids: np.ndarray, told: Mapping[str, Any]) -> None:
        """Write an image and what its id map int32 (H, W) holds; `told` is said of the image beside name and size."""
        image = {"id": self._images + 1, "file_name": file_name, "width": ids.shape[1], "height": ids.shape[0]}
        self._file.write(", " * bool(self._images) + json.dumps({**image, **told}))
        self._images += 1
        for annotation in _coco_annotations(ids, self._images, self._instances + 1, self._labels):
            self._annotations.write(", " * bool(self._instances) + json.dumps(annotation))
            self._instances += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None:
                self._file.write('], "annotations": [')
                self._annotations.seek(0)
                shutil.copyfileobj(self._annotations, self._file)
                self._file.write(f'], "categories": {json.dumps(self._categories)}}}')


def _coco_annotations(ids: np.ndarray, image_id: int, first: int, labels: LabelTable) -> Iterator[dict[str, Any]]:
    number = first
    for value in np.unique(ids).tolist():
        label = labels.label_of(value)
        if label.name not in labels.classes:
            continue
        mask = ids == value
        x1, y1, x2, y2 = mask_box(mask)
        yield {
            "id": number,
            "image_id": image_id,
            "category_id": label.category_id,
            "segmentation": encode_rle(mask),
            "area": int(mask.sum()),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": int(value < labels.factor),
        }
        number += 1
