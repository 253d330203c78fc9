"""An anonymised data set as files: the images of all splits without metadata, and the labels unchanged."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.annotated import ImageFolder
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.data.formats.cityscapes import label_files
from instsynth_dagster.data.formats.coco import with_other_images
from instsynth_dagster.data.images import decode_ids, decode_png
from instsynth_dagster.data.versions import files_below
from instsynth_dagster.settings import AnonymiseSettings
from instsynth_dagster.synthesis.export import MARK, put_in_place, staged_export
from instsynth_dagster.synthesis.export_coco import CocoFile
from instsynth_dagster.synthesis.survivors import compare, sentence

RECORD = "anonymised.csv"
"""File that lists every hidden object and how it was hidden."""
_RECORDED = ("frame_id", "value", "class", "how", "why")


@dataclass
class Examined:
    """Result of comparing the written files with the data set (see `survivors.compare`).

    `problems` holds a sentence for each frame or file that is wrong; then numbers of frames, of hidden pixels and of
    informative ones among them, and the size in pixels of the largest group of informative pixels in any object that
    equals the source.
    """

    problems: list[str] = field(default_factory=list)
    frames: int = 0
    hidden: int = 0
    informative: int = 0
    largest_group: int = 0


def export_anonymised(
    rows: Iterable[Mapping[str, Any]],
    frames: Mapping[str, Any],
    dataset: DataSet,
    settings: AnonymiseSettings,
    out: Path,
    annotations: Mapping[str | None, Path] | None,
) -> Examined:
    """Write an anonymised data set and compare it with its source.

    An older export is replaced only if no pixels of the source survive; otherwise it is left as it was. Images are PNG
    without metadata. A Cityscapes tree keeps its names, and its label files byte for byte. COCO files keep their
    annotations and categories, and for each image its id, size and licence. Any other format becomes one COCO file for
    each split, with the masks as the graph reads them as RLE.

    Args:
        rows: for every frame frame_id, image_png, ids_png and told (JSON, lists of value, class, how and why).
        frames: rows of the frame table by frame_id.
        annotations: COCO files by split, empty for another format; None for a Cityscapes tree.

    Raises:
        ArtifactError: the folder was not made by an export.
    """
    examined = Examined()
    with staged_export(out) as staged:
        labels: _Labels
        if annotations is None:
            labels = _Tree(dataset.root, staged)
        elif annotations:
            labels = _CocoFiles(dataset.root, staged, annotations)
        else:
            labels = _Masks(dataset, staged)
        with (staged / RECORD).open("w", newline="") as file, labels:
            record = csv.writer(file)
            record.writerow(_RECORDED)
            for row in rows:
                frame = frames[row["frame_id"]]
                picture = staged / labels.picture(frame)
                picture.parent.mkdir(parents=True, exist_ok=True)
                picture.write_bytes(bytes(row["image_png"]))
                record.writerows([row["frame_id"], *line] for line in json.loads(row["told"]))
                labels.add(frame, row)
                labels.written.add(picture)
                _examine(picture, frame, dataset, settings, examined)
        known = {staged / RECORD, staged / MARK, *labels.written}
        examined.problems += labels.problems
        examined.problems += [
            f"{path}: was not compared with the source" for path in files_below(staged) if path not in known
        ]
        if not examined.problems:
            put_in_place(staged, out)
    return examined


class _Labels(AbstractContextManager["_Labels"]):
    """Writer of the labels of an export; it records the `written` files and the `problems` found."""

    def __init__(self, staged: Path) -> None:
        self.staged, self.written, self.problems = staged, set[Path](), list[str]()

    def picture(self, frame: Any) -> str:
        """Path, below the export, of the image of a row of the frame table."""
        return f"images/{frame.frame_id}.png"

    def add(self, frame: Any, row: Mapping[str, Any]) -> None:
        """Write the labels of one frame."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the files that belong to all frames together."""


class _Tree(_Labels):
    """Writer of a Cityscapes tree: its label files are copied."""

    def __init__(self, root: Path, staged: Path) -> None:
        super().__init__(staged)
        self._root = root

    def picture(self, frame: Any) -> str:
        return str(frame.image)

    def add(self, frame: Any, row: Mapping[str, Any]) -> None:
        for source in label_files(self._root / frame.ids):
            copy = self.staged / source.relative_to(self._root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            self.written.add(copy)
            if file_sha256(source) != file_sha256(copy):
                self.problems.append(f"{copy}: not the label file that it was copied from")


class _CocoFiles(_Labels):
    """Writer of the data set's COCO files for the anonymised images."""

    def __init__(self, images: Path, staged: Path, files: Mapping[str | None, Path]) -> None:
        super().__init__(staged)
        self._images, self._files, self._names = images, files, dict[str, str]()

    def add(self, frame: Any, row: Mapping[str, Any]) -> None:
        self._names[frame.image] = f"{frame.frame_id}.png"

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        folder = ImageFolder(self._images)
        for split, path in self._files.items():
            target = self.staged / _coco_name(split)
            target.parent.mkdir(exist_ok=True)
            content = with_other_images(path, lambda name: self._names.get(folder.find(name) or ""))
            target.write_text(json.dumps(content))
            self.written.add(target)


class _Masks(_Labels):
    """Writer of id maps as COCO files with RLE, one for each split."""

    def __init__(self, dataset: DataSet, staged: Path) -> None:
        super().__init__(staged)
        self._dataset, self._open = dataset, ExitStack()
        self._files: dict[str, CocoFile] = {}

    def add(self, frame: Any, row: Mapping[str, Any]) -> None:
        if frame.split not in self._files:
            target = self.staged / _coco_name(frame.split)
            coco = CocoFile(target, self._dataset.labels, self._dataset.categories())
            self._files[frame.split] = self._open.enter_context(coco)
            self.written.add(target)
        self._files[frame.split].add(f"{frame.frame_id}.png", decode_ids(row["ids_png"]), {})

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        self._open.__exit__(kind, *rest)


def _coco_name(split: str | None) -> str:
    return f"annotations/instances{'' if split is None else f'_{split}'}.json"


def _examine(picture: Path, frame: Any, dataset: DataSet, settings: AnonymiseSettings, examined: Examined) -> None:
    written = decode_png(picture.read_bytes())
    source, ids = dataset.image(frame), dataset.ids(frame)
    examined.frames += 1
    if written.shape != source.shape:
        examined.problems.append(f"{frame.frame_id}: not the size of its source")
        return
    compared = compare(source, written, ids, dataset.labels, settings.classes, settings)
    examined.hidden += compared.hidden
    examined.informative += compared.informative
    examined.largest_group = max(examined.largest_group, compared.largest_group)
    if problem := sentence(frame.frame_id, compared, dataset.labels):
        examined.problems.append(problem)
