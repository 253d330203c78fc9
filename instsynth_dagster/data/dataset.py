"""The data set, read only, in any format: frames by city, their pixels and their id maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import TypeAdapter

from instsynth_dagster.data.formats.cityscapes import (
    Frame,
)
from instsynth_dagster.data.index import Index
from instsynth_dagster.data.instances import instance_index
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.data.originals import OriginalImage
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
        from instsynth_dagster.data.annotated_data import AnnotatedData, ImagesAsRead
        from instsynth_dagster.data.cityscapes_data import CityscapesData

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


def size_columns(image: np.ndarray) -> dict[str, Any]:
    """The columns width and height, in pixels, of an image (H, W, 3)."""
    return {"width": image.shape[1], "height": image.shape[0]}
