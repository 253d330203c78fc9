"""Exports for other tools: COCO RLE JSON with its images, and a Cityscapes tree where the data set is one."""

from __future__ import annotations

import glob
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.formats.cityscapes import CITYSCAPES, city_of, write_frame
from instsynth_dagster.data.images import decode_ids, decode_png
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.originals import OriginalImage
from instsynth_dagster.data.versions import files_below
from instsynth_dagster.errors import ArtifactError
from instsynth_dagster.synthesis.export_coco import CocoFile
from instsynth_dagster.synthesis.export_formats import PanopticFiles, YoloFiles

_FRAME_ID = re.compile(r"[a-z0-9][a-z0-9_-]*_\d{6}_\d{6}")
MARK = ".instsynth-export"
"""File that marks a folder as made by an export; folders without it are never replaced."""
_MARKED = "This folder was exported by instsynth-dagster and is replaced as a whole when the export is made again.\n"
COCO_JSON = "annotations/instances_train.json"
MERGED_JSON = "annotations/instances_train_with_original.json"


@dataclass(frozen=True)
class Originals:
    """Images of the data set that a COCO JSON holds beside the windows; file names in it are relative to `base`."""

    root: Path
    images: Iterable[OriginalImage]

    def base(self, out: Path) -> Path:
        """The nearest common parent folder of the data set and an export."""
        return Path(os.path.commonpath([self.root.resolve(), out.resolve()]))


def write_export(
    rows: Iterable[Mapping[str, Any]],
    out: Path,
    labels: LabelTable = CITYSCAPES,
    *,
    tree: bool = True,
    categories: Sequence[Mapping[str, Any]] | None = None,
    split: str = "train",
    formats: Sequence[str] = (),
    originals: Originals | None = None,
) -> None:
    """Write synthetic frames with a COCO JSON; an older export is replaced once everything is written.

    Args:
        rows: frame_id, image_png (RGB, as stored), ids_png, and any columns of `IMAGE_ATTRIBUTES`, which become
            attributes of the image.
        out: the export's folder.
        labels: label table of the data set.
        tree: whether frames are written as a Cityscapes tree, else as images/<frame_id>.<suffix> in their stored
            format.
        categories: categories of the COCO JSON, as the data set's own files name them; default: the evaluated classes.
        formats: further formats, `yolo` and `coco_panoptic`.
        originals: images that a second COCO JSON (`MERGED_JSON`) holds beside the windows.

    Raises:
        ArtifactError: the folder was not made by an export, or a frame id does not follow the Cityscapes scheme.
    """
    with staged_export(out) as staged:
        images = f"leftImg8bit/{split}" if tree else IMAGES
        yolo = YoloFiles(staged, labels, images) if "yolo" in formats else None
        panoptic = PanopticFiles(staged, labels) if "coco_panoptic" in formats else None
        with ExitStack() as files:
            written: list[CocoFile] = [files.enter_context(CocoFile(staged / COCO_JSON, labels, categories))]
            if originals:
                written.append(files.enter_context(_Merged(staged, out, labels, categories, originals)))
            for row in rows:
                if not _FRAME_ID.fullmatch(row["frame_id"]):
                    raise ArtifactError(f"{row['frame_id']!r} is no Cityscapes frame id; nothing was exported")
                ids = decode_ids(row["ids_png"])
                if tree:
                    write_frame(staged, split, row["frame_id"], decode_png(row["image_png"]), ids, labels)
                    name = f"{images}/{city_of(row['frame_id'])}/{row['frame_id']}_leftImg8bit.png"
                else:
                    name = _write_image(staged, row)
                attributes = {IMAGE_ATTRIBUTES[key]: row[key] for key in IMAGE_ATTRIBUTES if row.get(key)}
                for coco in written:
                    coco.add(name, ids, {"synthetic": True} | attributes)
                for further in (yolo, panoptic):
                    if further:
                        further.add(name, ids)
        if panoptic:
            panoptic.finish()
        put_in_place(staged, out)


@contextmanager
def staged_export(out: Path) -> Iterator[Path]:
    """A new folder beside an export's, to be filled and then moved by `put_in_place`; it is removed if it was not
    moved.

    Raises:
        ArtifactError: the folder at `out` was not made by an export.
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
    """Replace an older export by the staged one.

    Raises:
        ArtifactError: the folder at `out` was not made by an export.
    """
    _check_replaceable(out)
    if out.exists():
        shutil.rmtree(out)
    os.replace(staged, out)


IMAGE_ATTRIBUTES = {
    "prompt": "prompt",
    "source_frame": "source",
    "instance_id": "source_instance",
    "generator": "generator",
}
"""Columns of windows, and the names of the image attributes in the COCO JSON that hold them."""


class _Merged(CocoFile):
    """The COCO JSON of original images and windows together."""

    def __init__(
        self,
        staged: Path,
        out: Path,
        labels: LabelTable,
        categories: Sequence[Mapping[str, Any]] | None,
        originals: Originals,
    ) -> None:
        base = originals.base(out)
        from_here = os.path.relpath(base, (out / MERGED_JSON).parent.resolve())
        info = {"file_names_are_relative_to": from_here}
        super().__init__(staged / MERGED_JSON, labels, categories, marked=True, info=info)
        self._windows = out.resolve().relative_to(base)
        self._original, self._originals = originals.root.resolve().relative_to(base), originals

    def __enter__(self) -> _Merged:
        super().__enter__()
        for image in self._originals.images:
            self.add_original((self._original / image.file).as_posix(), image)
        return self

    def add(self, file_name: str, ids: np.ndarray, attributes: Mapping[str, Any]) -> None:
        super().add((self._windows / file_name).as_posix(), ids, attributes)


IMAGES = "images"
_SUFFIXES = {b"\x89PNG": "png", b"RIFF": "webp", b"\xff\xd8": "jpg"}


def suffix_of(content: bytes) -> str:
    """File suffix of a stored window, from its first bytes."""
    return next(name for mark, name in _SUFFIXES.items() if content.startswith(mark))


def _write_image(folder: Path, row: Mapping[str, Any]) -> str:
    """Write a window in its stored format; returns its path relative to the folder."""
    content = bytes(row["image_png"])
    path = folder / IMAGES / f"{row['frame_id']}.{suffix_of(content)}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path.relative_to(folder).as_posix()


def _is_replaceable(folder: Path) -> bool:
    """Whether a folder was made by an export, or is empty."""
    return folder.is_dir() and not folder.is_symlink() and ((folder / MARK).is_file() or not any(folder.iterdir()))


def _check_replaceable(out: Path) -> None:
    """Check that nothing lies at `out` but an earlier export.

    Raises:
        ArtifactError: the folder at `out` was not made by an export.
    """
    if os.path.lexists(out) and not _is_replaceable(out):
        raise ArtifactError(
            f"{out}: not a folder that an export has made (it holds no {MARK}); move it away, or name another folder "
            "in artifacts.exports"
        )


def exported_files(out: Path) -> Iterator[tuple[str, str]]:
    """(path relative to `out`, sha256) of every file of an export except its mark."""
    for path in files_below(out):
        if path == out / MARK:
            continue
        yield path.relative_to(out).as_posix(), file_sha256(path)
