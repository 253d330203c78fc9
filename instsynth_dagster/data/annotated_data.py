"""A data set of images that are annotated object by object, read only, through an index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.dataset import DataSet, size_columns
from instsynth_dagster.data.index import Index, IndexedFrame
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.near_duplicates import mirrored_hash, perceptual_hash
from instsynth_dagster.data.originals import OriginalImage, OriginalObject
from instsynth_dagster.data.rasterise import Drawn, OnTop, draw
from instsynth_dagster.data.reading import Turn
from instsynth_dagster.data.reading import read_image as read_photo
from instsynth_dagster.errors import DatasetError


@dataclass(frozen=True)
class ImagesAsRead:
    """A folder of images, and how images and annotations are read (`reading.Turn`, `rasterise.OnTop`)."""

    root: Path
    overlap: OnTop
    orientation: Turn


class AnnotatedData(DataSet):
    """Images with annotated objects, read through an index.

    Columns of the frame table beyond those of every format: `lost_pixels` of objects under others, the number of
    `overlapping` objects that lost pixels, of `hidden` ones that lost all, and of `empty` ones that cover no pixel of
    the image.
    """

    def __init__(self, images: ImagesAsRead, labels: LabelTable, index: Index) -> None:
        self.root, self.labels = images.root, labels
        self._images, self._index = images, index
        self._known: dict[str, str] | None = None

    def address(self) -> dict[str, Any]:
        return {
            "root": str(self.root),
            "labels": asdict(self.labels),
            "overlap": self._images.overlap,
            "orientation": self._images.orientation,
            "index": str(self._index.path),
        }

    def city_of(self, frame_id: str) -> str:
        if self._known is None:
            self._known = self._index.cities()
        return self._known.get(frame_id, "")

    def categories(self) -> list[dict[str, Any]]:
        return [
            {key: category[key] for key in ("id", "name", "supercategory") if category[key] is not None}
            for category in self._index.survey().categories
            if category["has_instances"]
        ]

    def directories(self, city: str) -> list[Path]:
        self._allow(city)
        return []

    def frame_ids(self, city: str) -> list[str]:
        self._allow(city)
        return self._index.frame_ids(city)

    def frame_table(self, city: str) -> pd.DataFrame:
        self._allow(city)
        return pd.DataFrame([self._frame_row(frame) for frame in self._index.frames(city)])

    def _frame_row(self, frame: IndexedFrame) -> dict[str, Any]:
        image, drawn = self._image(frame), self._drawn(frame)
        return {
            "frame_id": frame.frame_id,
            "city": frame.city,
            "split": frame.split,
            **size_columns(image),
            "image": frame.file,
            "ids": "",
            "image_sha256": file_sha256(self.root / frame.file),
            "ids_sha256": frame.digest,
            "perceptual_hash": perceptual_hash(image),
            "mirrored_hash": mirrored_hash(image),
            **{name: getattr(drawn, name) for name in LOSS_COLUMNS},
        }

    def originals(self, cities: Sequence[str]) -> Iterator[OriginalImage]:
        numbered = self._are_numbered(cities)
        for frame in self._frames(cities):
            numbers = frame.source_ids if numbered else (None,) * len(frame.annotations)
            found = [
                OriginalObject(label.name, annotation.segmentation, annotation.is_group, number)
                for annotation, number in zip(frame.annotations, numbers, strict=True)
                if (label := self.labels.by_id[annotation.label_id]).has_instances
            ]
            yield OriginalImage(frame.file, frame.size, frame.source_id if numbered else None, tuple(found))

    def _frames(self, cities: Iterable[str]) -> Iterator[IndexedFrame]:
        for city in cities:
            self._allow(city)
            yield from self._index.frames(city)

    def _are_numbered(self, cities: Sequence[str]) -> bool:
        frames = [(frame.source_id, frame.source_ids) for frame in self._frames(cities)]
        images, objects = [number for number, _ in frames], [number for _, numbers in frames for number in numbers]
        return all(None not in ids and len(set(ids)) == len(ids) for ids in (images, objects))

    def image(self, row: Any) -> np.ndarray:
        return self._image(self._frame(row.frame_id))

    def ids(self, row: Any) -> np.ndarray:
        return self._drawn(self._frame(row.frame_id)).ids

    def image_of(self, frame_id: str) -> np.ndarray:
        return self._image(self._frame(frame_id))

    def image_and_ids(self, frame_id: str) -> tuple[np.ndarray, np.ndarray]:
        frame = self._frame(frame_id)
        return self._image(frame), self._drawn(frame).ids

    def _frame(self, frame_id: str) -> IndexedFrame:
        frame = self._index.frame(frame_id)
        self._allow(frame.city)
        return frame

    def _image(self, frame: IndexedFrame) -> np.ndarray:
        return read_photo(self.root / frame.file, frame.size, self._images.orientation)

    def _drawn(self, frame: IndexedFrame) -> Drawn:
        try:
            return draw(frame.annotations, frame.size[::-1], self.labels, self._images.overlap)
        except DatasetError as error:
            raise DatasetError(f"the annotations of {frame.file!r}: {error}") from None


LOSS_COLUMNS = ("lost_pixels", "overlapping", "hidden", "empty")
