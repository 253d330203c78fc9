"""The street data set in Cityscapes layout, read only."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.files import file_sha256
from instsynth_dagster.data.formats.cityscapes import (
    Frame,
    city_of,
    instance_index,
    label_ids,
    list_frames,
    list_semantic_frames,
    read_frame,
    read_ids,
    read_image,
)
from instsynth_dagster.data.near_duplicates import mirrored_hash, perceptual_hash
from instsynth_dagster.data.versions import city_directories
from instsynth_dagster.errors import Reader, UndeclaredRead
from instsynth_dagster.synthesis.places import grounds


class Dataset:
    """Frames below `root`; tables refer to files relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._cities: frozenset[str] | None = None
        self._reader: Reader | None = None

    def of_cities(self, cities: Iterable[str], reader: Reader) -> Dataset:
        """The same data set for an asset that may read the files of some cities only.

        Raises:
            UndeclaredRead: later, on reading a file of another city.
        """
        part = Dataset(self.root)
        part._cities, part._reader = frozenset(cities), reader
        return part

    def _allow(self, city: str) -> None:
        if self._cities is not None and city not in self._cities:
            raise UndeclaredRead(self._reader, f"files of city {city}", f"frames[{city}] to its `reads`")

    def directories(self, city: str) -> list[Path]:
        """Folders of a city's files."""
        self._allow(city)
        return city_directories(self.root, city)

    def frame_table(self, city: str) -> pd.DataFrame:
        """One row per frame: frame_id, city, split, width, height, image, ids, image_sha256, ids_sha256, and the
        perceptual hashes of the image and of its mirror image."""
        self._allow(city)
        return pd.DataFrame([self._frame_row(frame) for frame in list_frames(self.root, city)])

    def _frame_row(self, frame: Frame) -> dict[str, Any]:
        image, _ = read_frame(frame)
        return {
            "frame_id": frame.frame_id,
            "city": frame.city,
            "split": frame.split,
            "width": image.shape[1],
            "height": image.shape[0],
            "image": frame.image.relative_to(self.root).as_posix(),
            "ids": frame.ids.relative_to(self.root).as_posix(),
            "image_sha256": file_sha256(frame.image),
            "ids_sha256": file_sha256(frame.ids),
            "perceptual_hash": perceptual_hash(image),
            "mirrored_hash": mirrored_hash(image),
        }

    def semantic_frames(self, city: str) -> list[Frame]:
        """Frames of a city that has semantic maps; `ids` is the path of the label id map."""
        self._allow(city)
        return list_semantic_frames(self.root, city)

    def image(self, row: Any) -> np.ndarray:
        """uint8 (H, W, 3) RGB of a row of the frame table."""
        self._allow(city_of(row.frame_id))
        return read_image(self.root / row.image)

    def ids(self, row: Any) -> np.ndarray:
        """int32 (H, W) id map of a row of the frame table."""
        self._allow(city_of(row.frame_id))
        return read_ids(self.root / row.ids)

    def image_of(self, frame_id: str) -> np.ndarray:
        """uint8 (H, W, 3) RGB of a frame by its id."""
        return read_image(self._frame(frame_id).image)

    def image_and_ids(self, frame_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Image and id map of a frame by its id."""
        return read_frame(self._frame(frame_id))

    def _frame(self, frame_id: str) -> Frame:
        self._allow(city_of(frame_id))
        frames = list_frames(self.root, city_of(frame_id))
        return next(frame for frame in frames if frame.frame_id == frame_id)

    def instance_table(self, frames: pd.DataFrame) -> pd.DataFrame:
        """`instance_index` of every frame, with instance_id and frame_id in front, and as `ground` the id of the label
        that an instance stands on, -1 where that is not in the frame."""
        tables = []
        for row in frames.itertuples():
            ids = self.ids(row)
            table = instance_index(ids)
            table["ground"] = grounds(ids, label_ids(ids), table)
            table.insert(0, "instance_id", [f"{row.frame_id}:{value}" for value in table["value"]])
            table.insert(1, "frame_id", row.frame_id)
            tables.append(table)
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def preview(self, frames: pd.DataFrame) -> str:
        """Markdown with the first frames, instances drawn in."""
        from instsynth_dagster.evaluation.report.gallery import contact_sheet, overlay_instances, thumbnail_markdown

        shown = [overlay_instances(self.image(row), self.ids(row)) for row in frames.head(4).itertuples()]
        return thumbnail_markdown(contact_sheet(shown, columns=2, captions=None), width=900)
