"""The data set, read only, in any format: frames by city, their pixels and their id maps."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.formats.cityscapes import (
    CITYSCAPES,
    Frame,
    city_of,
    list_frames,
    list_semantic_frames,
    read_frame,
    read_ids,
    read_image,
)
from instsynth_dagster.data.index import Index, IndexedFrame, labels_digest
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.near_duplicates import mirrored_hash, perceptual_hash
from instsynth_dagster.data.originals import OriginalImage, OriginalObject
from instsynth_dagster.data.pixel_runs import IdRuns, as_text
from instsynth_dagster.data.rasterise import Drawn, OnTop, draw
from instsynth_dagster.data.reading import Turn
from instsynth_dagster.data.reading import read_image as read_photo
from instsynth_dagster.data.versions import city_directories
from instsynth_dagster.errors import DatasetError, Reader, UndeclaredRead

PREVIEWED_FRAMES = 4


class DataSet(ABC):
    """Frames below `root`; tables refer to files relative to it. `labels` is the label table of its id maps."""

    root: Path
    labels: LabelTable
    _cities: frozenset[str] | None = None
    _reader: Reader | None = None

    def of_cities(self, cities: Iterable[str], reader: Reader) -> DataSet:
        """The same data set for an asset that may read the files of some cities only.

        Raises:
            UndeclaredRead: raised later, on reading a file of another city.
        """
        part = copy(self)
        part._cities, part._reader = frozenset(cities), reader
        return part

    def _allow(self, city: str) -> None:
        if self._cities is not None and city not in self._cities:
            raise UndeclaredRead(self._reader, f"files of city {city}", f"frames[{city}] to its `reads`")

    @abstractmethod
    def city_of(self, frame_id: str) -> str:
        """The city of a frame according to the files of the data set; "" for an unknown frame."""

    def categories(self) -> list[dict[str, Any]]:
        """COCO categories of the evaluated classes, with the ids and names of the data set's own files."""
        return [{"id": self.labels[name].category_id, "name": name} for name in self.labels.classes]

    @abstractmethod
    def address(self) -> dict[str, Any]:
        """JSON values from which another process opens the data set (`DataSet.at`)."""

    @staticmethod
    def at(address: Mapping[str, Any]) -> DataSet:
        """The data set of an `address`."""
        labels = TypeAdapter(LabelTable).validate_python(address["labels"])
        if "index" not in address:
            return CityscapesData(Path(address["root"]), labels, address["left_out"])
        images = ImagesAsRead(Path(address["root"]), address["overlap"], address["orientation"])
        return AnnotatedData(images, labels, Index(Path(address["index"])))

    @abstractmethod
    def directories(self, city: str) -> list[Path]:
        """Folders that hold the files of a city and nothing else; empty where cities share folders."""

    @abstractmethod
    def frame_ids(self, city: str) -> list[str]:
        """Ids of a city's frames, without reading any of them."""

    @abstractmethod
    def frame_table(self, city: str) -> pd.DataFrame:
        """One row per frame, every file decoded once: frame_id, city, split, width, height, image, ids, image_sha256,
        ids_sha256, and the perceptual hashes of the image and of its mirror image.
        """

    @abstractmethod
    def image(self, row: Any) -> np.ndarray:
        """Image uint8 (H, W, 3) RGB of a row of the frame table."""

    @abstractmethod
    def ids(self, row: Any) -> np.ndarray:
        """Id map int32 (H, W) of a row of the frame table."""

    @abstractmethod
    def image_of(self, frame_id: str) -> np.ndarray:
        """Image uint8 (H, W, 3) RGB of a frame by its id."""

    @abstractmethod
    def image_and_ids(self, frame_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Image and id map of a frame by its id."""

    @abstractmethod
    def originals(self, cities: Sequence[str]) -> Iterator[OriginalImage]:
        """The images of cities with their own annotations. Either all images and objects have unique numbers, or none
        has any.
        """

    def semantic_frames(self, city: str) -> list[Frame]:
        """Frames of a city that has semantic maps; `ids` is the path of the label id map.

        Raises:
            DatasetError: the format has no semantic maps.
        """
        raise DatasetError("semantics: only a data set in Cityscapes layout has semantic maps; remove the section")

    def preview(self, frames: pd.DataFrame) -> str:
        """Markdown with the first frames and their instances."""
        from instsynth_dagster.evaluation.report.gallery import contact_sheet, overlay_instances, thumbnail_markdown

        rows = list(frames.head(PREVIEWED_FRAMES).itertuples())
        shown = [overlay_instances(self.image(row), self.ids(row), self.labels) for row in rows]
        return thumbnail_markdown(contact_sheet(shown, columns=2, captions=None), width=700)

    def instance_table(self, frames: pd.DataFrame) -> pd.DataFrame:
        """`instance_index` of every frame, with the columns instance_id and frame_id in front, and `ground`, the id of
        the label that an instance stands on, -1 where that is outside the frame.
        """
        from instsynth_dagster.synthesis.places import grounds

        tables = []
        for row in frames.itertuples():
            ids = self.ids(row)
            table = instance_index(ids, self.labels)
            table["ground"] = grounds(ids, self.labels.label_ids(ids), table)
            table.insert(0, "instance_id", [f"{row.frame_id}:{value}" for value in table["value"]])
            table.insert(1, "frame_id", row.frame_id)
            tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _described(image: np.ndarray) -> dict[str, Any]:
    return {"width": image.shape[1], "height": image.shape[0]}


class CityscapesData(DataSet):
    """A tree in Cityscapes layout; frames that are left out, by their ids, count as absent."""

    def __init__(self, root: Path, labels: LabelTable, left_out: Sequence[str] = ()) -> None:
        self.root, self.labels, self._left_out = Path(root), labels, tuple(left_out)

    def address(self) -> dict[str, Any]:
        return {"root": str(self.root), "labels": asdict(self.labels), "left_out": list(self._left_out)}

    def _listed(self, city: str, listed: Callable[[Path, str], list[Frame]]) -> list[Frame]:
        """The frames of a city.

        Raises:
            DatasetError: a frame that is left out is not there anyway, or no other one is.
        """
        self._allow(city)
        frames = listed(self.root, city)
        absent = {frame_id for frame_id in self._left_out if city_of(frame_id) == city}
        if unknown := sorted(absent - {frame.frame_id for frame in frames}):
            raise DatasetError(f"dataset.leave_out: {city} has no frame {unknown[0]!r}")
        kept = [frame for frame in frames if frame.frame_id not in absent]
        if not kept:
            raise DatasetError(f"dataset.leave_out: leaves no frame of {city}; name the city no more instead")
        return kept

    def city_of(self, frame_id: str) -> str:
        return city_of(frame_id)

    def semantic_frames(self, city: str) -> list[Frame]:
        return self._listed(city, list_semantic_frames)

    def directories(self, city: str) -> list[Path]:
        self._allow(city)
        return city_directories(self.root, city)

    def frame_ids(self, city: str) -> list[str]:
        return [frame.frame_id for frame in self._listed(city, list_frames)]

    def frame_table(self, city: str) -> pd.DataFrame:
        return pd.DataFrame([self._frame_row(frame) for frame in self._listed(city, list_frames)])

    def _frame_row(self, frame: Frame) -> dict[str, Any]:
        image, _ = read_frame(frame, self.labels)
        return {
            "frame_id": frame.frame_id,
            "city": frame.city,
            "split": frame.split,
            **_described(image),
            "image": frame.image.relative_to(self.root).as_posix(),
            "ids": frame.ids.relative_to(self.root).as_posix(),
            "image_sha256": file_sha256(frame.image),
            "ids_sha256": self._ids_digest(frame.ids),
            "perceptual_hash": perceptual_hash(image),
            "mirrored_hash": mirrored_hash(image),
        }

    def _ids_digest(self, path: Path) -> str:
        """Digest of an id map's file and, where the label table is not the layout's own, of the table, which gives ids
        other names.
        """
        digest = file_sha256(path)
        if self.labels == CITYSCAPES:
            return digest
        return hashlib.sha256(f"{digest}{labels_digest(self.labels)}".encode()).hexdigest()

    def originals(self, cities: Sequence[str]) -> Iterator[OriginalImage]:
        for city in cities:
            for frame in self._listed(city, list_frames):
                runs = IdRuns.of(read_ids(frame.ids, self.labels))
                found = [
                    OriginalObject(label.name, as_text(runs.rle(value)), value < self.labels.factor, None)
                    for value in runs.values.tolist()
                    if (label := self.labels.label_of(value)).has_instances
                ]
                file = frame.image.relative_to(self.root).as_posix()
                yield OriginalImage(file, runs.shape[::-1], None, tuple(found))

    def image(self, row: Any) -> np.ndarray:
        self._allow(city_of(row.frame_id))
        return read_image(self.root / row.image)

    def ids(self, row: Any) -> np.ndarray:
        self._allow(city_of(row.frame_id))
        return read_ids(self.root / row.ids, self.labels)

    def image_of(self, frame_id: str) -> np.ndarray:
        return read_image(self._files(frame_id)[0])

    def image_and_ids(self, frame_id: str) -> tuple[np.ndarray, np.ndarray]:
        image, ids = self._files(frame_id)
        return read_frame(Frame(frame_id, image.parts[-3], city_of(frame_id), image, ids), self.labels)

    def _files(self, frame_id: str) -> tuple[Path, Path]:
        city = city_of(frame_id)
        self._allow(city)
        image = next(iter(self.root.glob(f"leftImg8bit/*/{city}/{frame_id}_leftImg8bit.png")), None)
        if image is None:
            raise DatasetError(f"{self.root}: no frame {frame_id!r}; it has been there, refresh")
        return image, self.root / "gtFine" / image.parts[-3] / city / f"{frame_id}_gtFine_instanceIds.png"


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
            **_described(image),
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
