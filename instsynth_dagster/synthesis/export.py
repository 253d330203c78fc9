"""Deliverables for other tools: a Cityscapes tree and COCO RLE JSON."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, city_of, write_frame
from instsynth_dagster.data.images import decode_ids, decode_png
from instsynth_dagster.data.masks import encode_rle, mask_box
from instsynth_dagster.data.versions import files_below
from instsynth_dagster.errors import ArtifactError

_FRAME_ID = re.compile(r"[a-z0-9][a-z0-9_-]*_\d{6}_\d{6}")
MARK = ".instsynth-export"
"""File that marks a folder as made by an export: no other folder is ever replaced."""
_MARKED = "This folder was exported by instsynth-dagster and is replaced as a whole when the export is made again.\n"
COCO_JSON = "annotations/instances_train.json"
_INFO = {"description": "IS-Cityscapes: synthetic instances in focused windows", "version": "1.0"}
"""Without `info` and `licenses` pycocotools cannot load results for the file."""


def write_export(rows: Iterable[Mapping[str, Any]], out: Path, split: str = "train") -> None:
    """Write synthetic frames as a Cityscapes tree with a COCO JSON; an older export is replaced when all is written.

    Args:
        rows: frame_id, image_png (RGB), ids_png (16-bit).
        out: the export's folder.

    Raises:
        ArtifactError: the folder was not made by an export, or a frame id is none of Cityscapes'.
    """
    _check_replaceable(out)
    staged = out.with_name(f"{out.name}.tmp-{uuid.uuid4().hex[:8]}")
    for left in out.parent.glob(f"{glob.escape(out.name)}.tmp-*"):  # by a killed run; a partition has one writer
        if _is_replaceable(left):
            shutil.rmtree(left)
    try:
        staged.mkdir(parents=True)
        (staged / MARK).write_text(_MARKED)
        with _CocoFile(staged / COCO_JSON) as coco:
            for row in rows:
                if not _FRAME_ID.fullmatch(row["frame_id"]):
                    raise ArtifactError(f"{row['frame_id']!r} is no Cityscapes frame id; nothing was exported")
                image, ids = decode_png(row["image_png"]), decode_ids(row["ids_png"])
                write_frame(staged, split, row["frame_id"], image, ids)
                coco.add(row["frame_id"], split, ids)
        _check_replaceable(out)
        if out.exists():
            shutil.rmtree(out)
        os.replace(staged, out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


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


class _CocoFile:
    """A COCO JSON that is written while frames come in, so that memory does not grow with their number."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True)
        self._path, self._images, self._instances = path, 0, 0

    def __enter__(self) -> _CocoFile:
        self._open = ExitStack()
        self._file = self._open.enter_context(self._path.open("w"))
        self._annotations = self._open.enter_context(TemporaryFile("w+"))
        self._file.write(f'{{"info": {json.dumps(_INFO)}, "licenses": [], "images": [')
        return self

    def add(self, frame_id: str, split: str, ids: np.ndarray) -> None:
        image = _coco_image(frame_id, split, ids.shape, self._images + 1)
        self._file.write(", " * bool(self._images) + json.dumps(image))
        self._images += 1
        for annotation in _coco_annotations(ids, self._images, self._instances + 1):
            self._annotations.write(", " * bool(self._instances) + json.dumps(annotation))
            self._instances += 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if kind is None:
                self._file.write('], "annotations": [')
                self._annotations.seek(0)
                shutil.copyfileobj(self._annotations, self._file)
                categories = [{"id": CITYSCAPES.id_of(name), "name": name} for name in CITYSCAPES.classes]
                self._file.write(f'], "categories": {json.dumps(categories)}}}')


def _coco_image(frame_id: str, split: str, shape: tuple[int, ...], image_id: int) -> dict[str, Any]:
    name = f"leftImg8bit/{split}/{city_of(frame_id)}/{frame_id}_leftImg8bit.png"
    return {"id": image_id, "file_name": name, "width": shape[1], "height": shape[0]}


def _coco_annotations(ids: np.ndarray, image_id: int, first: int) -> Iterator[dict[str, Any]]:
    number = first
    for value in np.unique(ids).tolist():
        label = CITYSCAPES.label_of(value)
        if label.name not in CITYSCAPES.classes:
            continue
        mask = ids == value
        x1, y1, x2, y2 = mask_box(mask)
        yield {
            "id": number,
            "image_id": image_id,
            "category_id": label.id,
            "segmentation": encode_rle(mask),
            "area": int(mask.sum()),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": int(value < CITYSCAPES.factor),
        }
        number += 1
