"""An annotated data set, parsed once: its frames by group, label table and notes, in a SQLite file.

Annotation files of a hundred thousand images take minutes to parse and gigabytes to hold; every process looks up single
frames here instead. The file may be deleted at any time and is made again when the annotations or the listing of the
images change.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instsynth_dagster.data.annotated import Annotated, AnnotatedImage, frame_ids
from instsynth_dagster.data.annotated_labels import label_table
from instsynth_dagster.data.groups import city_names
from instsynth_dagster.data.labels import Label, LabelTable, labels_digest
from instsynth_dagster.data.rasterise import Annotation, OnTop
from instsynth_dagster.data.reading import Turn, size_as_read
from instsynth_dagster.errors import DatasetError

_VERSION = 2
TRAIN, VAL = "train", "val"
_LONGEST_SIDE, _STEP = 1024, 32
"""Longest side of windows, and the step of their sides, in pixels."""


@dataclass(frozen=True)
class IndexedFrame:
    """A frame of an annotated data set; `file` is relative to the folder of images, `size` is the annotated (width,
    height).

    `source_id` and `source_ids` are the numbers of the image and of its annotations in the data set's own files, if
    any.
    """

    frame_id: str
    city: str
    split: str
    file: str
    size: tuple[int, int]
    digest: str
    annotations: tuple[Annotation, ...]
    source_id: int | None
    source_ids: tuple[int | None, ...]


@dataclass(frozen=True)
class Survey:
    """A summary of a data set: cities of each split, label table, categories of its files, and notes.

    `instances` counts single objects of each class in train frames, `sizes` counts frames by (width, height).
    """

    train_cities: tuple[str, ...]
    val_cities: tuple[str, ...]
    labels: LabelTable
    categories: tuple[dict[str, Any], ...]
    instances: Mapping[str, int]
    frames: Mapping[str, int]
    sizes: Mapping[tuple[int, int], int]
    notes: tuple[str, ...]

    @property
    def window_size(self) -> tuple[int, int]:
        """Width and height of windows in the proportions of the median image, with a longer side of at most 1,024."""
        sizes = np.repeat(np.array(list(self.sizes)), list(self.sizes.values()), axis=0)
        median = np.median(sizes, axis=0)
        scale = min(1.0, _LONGEST_SIDE / median.max())
        width, height = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in median.tolist())
        return width, height


class Index:
    """The index at a path, which `write_index` has made."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def survey(self) -> Survey:
        """The summary of the data set in the index."""
        with closing(self._open()) as connection:
            content = json.loads(connection.execute("SELECT told FROM survey").fetchone()[0])
        table = content["labels"]
        labels = tuple(Label(**{**row, "color": tuple(row["color"])}) for row in table["labels"])
        return Survey(
            tuple(content["train_cities"]),
            tuple(content["val_cities"]),
            LabelTable(labels, table["factor"]),
            tuple(content["categories"]),
            content["instances"],
            content["frames"],
            {(width, height): count for width, height, count in content["sizes"]},
            tuple(content["notes"]),
        )

    def frames(self, city: str) -> Iterator[IndexedFrame]:
        """Frames of a city, sorted by id."""
        with closing(self._open()) as connection:
            rows = connection.execute("SELECT * FROM frames WHERE city = ? ORDER BY frame_id", (city,)).fetchall()
        yield from (_frame(row) for row in rows)

    def frame_ids(self, city: str) -> list[str]:
        """Ids of a city's frames, sorted."""
        with closing(self._open()) as connection:
            rows = connection.execute("SELECT frame_id FROM frames WHERE city = ? ORDER BY frame_id", (city,))
            return [row[0] for row in rows]

    def cities(self) -> dict[str, str]:
        """City of every frame."""
        with closing(self._open()) as connection:
            return dict(connection.execute("SELECT frame_id, city FROM frames"))

    def frame(self, frame_id: str) -> IndexedFrame:
        """A frame by its id.

        Raises:
            DatasetError: there is none.
        """
        with closing(self._open()) as connection:
            row = connection.execute("SELECT * FROM frames WHERE frame_id = ?", (frame_id,)).fetchone()
        if row is None:
            raise DatasetError(f"{frame_id!r}: no such frame in the annotations; they have changed, refresh")
        return _frame(row)

    def signature(self, city: str) -> tuple[list[str], str]:
        """The image files of a city, and a digest of all annotations in them."""
        with closing(self._open()) as connection:
            rows = connection.execute(
                "SELECT frame_id, file, digest FROM frames WHERE city = ? ORDER BY frame_id", (city,)
            ).fetchall()
        lines = "\n".join("\0".join(row) for row in rows)
        return [row[1] for row in rows], hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()

    def exists(self) -> bool:
        """Whether the file is a whole index."""
        if not self.path.is_file():
            return False
        try:
            with closing(self._open()) as connection:
                return connection.execute("SELECT count(*) FROM survey").fetchone()[0] == 1
        except sqlite3.DatabaseError:
            return False

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        connection.text_factory = lambda data: data.decode(errors="surrogateescape")
        return connection


def _frame(row: Sequence[Any]) -> IndexedFrame:
    frame_id, city, split, file, width, height, digest, packed, source_id, source_ids = row
    objects = json.loads(zlib.decompress(packed))
    annotations = tuple(Annotation(label_id, segmentation, bool(group)) for label_id, group, segmentation in objects)
    ids = tuple(json.loads(source_ids))
    return IndexedFrame(frame_id, city, split, file, (width, height), digest, annotations, source_id, ids)


def write_index(
    path: Path,
    root: Path,
    annotated: Annotated,
    groups: Mapping[str, str],
    splits: Mapping[str, str],
    turn: Turn,
    on_top: OnTop,
) -> None:
    """Write the index of a data set, whole or not at all.

    Args:
        root: folder of the images.
        groups: group of each file.
        splits: `train` or `val` for each file.
        turn: as for `reading.read_image`.
        on_top: as for `rasterise.draw`.
    """
    labels = label_table(annotated)
    ids_of: dict[int | None, int] = {
        label.category_id: label.id for label in labels.labels if label.source_id is not None
    }
    ids_of[None] = max(label.id for label in labels.labels)  # void is the last label
    things: dict[int | None, bool] = {category.id: category.has_instances for category in annotated.categories}
    things[None] = False
    names = city_names((splits[image.file], groups[image.file]) for image in annotated.images)
    named = frame_ids([image.file for image in annotated.images])
    instances: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    sizes: Counter[tuple[int, int]] = Counter()
    read_as = f"{labels_digest(labels)} {turn} {on_top}"
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    staged.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(staged)) as connection, connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute(
                "CREATE TABLE frames (frame_id TEXT PRIMARY KEY, city TEXT, split TEXT, file TEXT, width INTEGER, "
                "height INTEGER, digest TEXT, annotations BLOB, source_id INTEGER, source_ids TEXT) WITHOUT ROWID"
            )
            connection.execute("CREATE TABLE survey (told TEXT)")
            for image in annotated.images:
                split = splits[image.file]
                city, size = names[split, groups[image.file]], _annotated_size(root, image, turn)
                objects = [
                    [ids_of[o.category], int(o.crowd or not things[o.category]), o.segmentation] for o in image.objects
                ]
                text = json.dumps(objects, separators=(",", ":"), default=_as_text).encode()
                digest = hashlib.sha256(text + f"{size}{read_as}".encode()).hexdigest()
                source_ids = json.dumps([o.source_id for o in image.objects])
                row = (named[image.file], city, split, image.file, *size, digest, zlib.compress(text, 1))
                ids = (image.source_id, source_ids)
                connection.execute("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", _encodable((*row, *ids)))
                frames[city] += 1
                sizes[size] += 1
                if split == TRAIN:
                    single = [o.category for o in image.objects if things[o.category] and not o.crowd]
                    instances.update(labels.by_id[ids_of[category]].name for category in single)
            connection.execute("CREATE INDEX by_city ON frames (city, frame_id)")
            content = {
                "train_cities": sorted({names[pair] for pair in names if pair[0] == TRAIN}),
                "val_cities": sorted({names[pair] for pair in names if pair[0] == VAL}),
                "labels": {"factor": labels.factor, "labels": [asdict(label) for label in labels.labels]},
                "categories": [asdict(category) for category in annotated.categories],
                "instances": instances,
                "frames": frames,
                "sizes": [[*size, count] for size, count in sorted(sizes.items())],
                "notes": list(annotated.notes),
            }
            connection.execute("INSERT INTO survey VALUES (?)", (json.dumps(content),))
        os.replace(staged, path)
    finally:
        with suppress(OSError):
            staged.unlink(missing_ok=True)


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("ascii")
    raise TypeError(f"{type(value).__name__} in a segmentation")


def _encodable(row: Sequence[Any]) -> tuple[Any, ...]:
    """A row for SQLite, which stores text as UTF-8; names that are not valid UTF-8 are stored as bytes."""
    return tuple(
        value.encode(errors="surrogateescape") if isinstance(value, str) and not _is_utf8(value) else value
        for value in row
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _annotated_size(root: Path, image: AnnotatedImage, turn: Turn) -> tuple[int, int]:
    """(width, height) at which an image is annotated: that of the format, or else that of the displayed image."""
    if image.width and image.height:
        return image.width, image.height
    return size_as_read(root / image.file, turn)


def index_key(described: Any, files: Sequence[Path], listing: Sequence[str]) -> str:
    """Name of the index for settings (as JSON), the current annotation files, and a listing of images."""
    stamps = [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    digest = hashlib.sha256(json.dumps([_VERSION, described, stamps], sort_keys=True).encode())
    for name in listing:
        digest.update(name.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:24]
