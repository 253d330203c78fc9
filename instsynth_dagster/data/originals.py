"""The images of a data set with their objects as annotated in its own files."""

from __future__ import annotations

from dataclasses import dataclass

from instsynth_dagster.data.rasterise import Segmentation


@dataclass(frozen=True)
class OriginalObject:
    """An object, or a crowd, of a label; `source_id` is its number in the data set's own files, if it has one."""

    label: str
    segmentation: Segmentation
    crowd: bool
    source_id: int | None


@dataclass(frozen=True)
class OriginalImage:
    """An image, `file` relative to the data set's root, `size` the annotated (width, height), and its objects."""

    file: str
    size: tuple[int, int]
    source_id: int | None
    objects: tuple[OriginalObject, ...]
