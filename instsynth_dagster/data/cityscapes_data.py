"""A data set in Cityscapes layout, read only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.dataset import DataSet, size_columns
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
from instsynth_dagster.data.labels import LabelTable, labels_digest
from instsynth_dagster.data.near_duplicates import mirrored_hash, perceptual_hash
from instsynth_dagster.data.originals import OriginalImage, OriginalObject
from instsynth_dagster.data.pixel_runs import IdRuns, as_text
from instsynth_dagster.data.versions import city_directories
from instsynth_dagster.errors import DatasetError


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
            **size_columns(image),
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
