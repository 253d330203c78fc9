"""The data set of the settings, and the index of annotated images, which is made when it is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from instsynth_dagster.data.annotated import Annotated, ImageFolder, frame_ids
from instsynth_dagster.data.annotated_data import AnnotatedData, ImagesAsRead
from instsynth_dagster.data.cityscapes_data import CityscapesData
from instsynth_dagster.data.collected import with_crowds
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.data.formats.reading import annotations_below, read_annotations
from instsynth_dagster.data.groups import (
    bounded,
    folder_groups,
    hash_groups,
    name_groups,
    split_by_fraction,
    table_groups,
)
from instsynth_dagster.data.index import TRAIN, VAL, Index, index_key, write_index
from instsynth_dagster.errors import DatasetError, UnreadableError
from instsynth_dagster.settings.data import AnnotatedImages, FolderGroups, HashGroups, NameGroups
from instsynth_dagster.settings.formats import DatasetSettings

if TYPE_CHECKING:
    from instsynth_dagster.settings import Settings

_SETTINGS: TypeAdapter[Any] = TypeAdapter(DatasetSettings)
CACHE = ".cache/annotations"
_CHECK_SECONDS = 10.0
"""Seconds after which a process checks again whether its index is the newest."""
_KEPT = 4
"""Number of indices of older annotations that are kept in the cache."""
_BUCKETS, _FEW = (8, 2), 32
"""Number of buckets for images in one folder, and for fewer than `_FEW` images."""


def open_dataset(settings: Settings) -> DataSet:
    """The data set that the settings name."""
    dataset = settings.dataset
    if isinstance(dataset, AnnotatedImages):
        images = ImagesAsRead(dataset.root, dataset.overlap, dataset.orientation)
        return AnnotatedData(images, settings.labels, open_index(dataset, settings.artifacts.local))
    return CityscapesData(dataset.root, settings.labels, dataset.leave_out)


def open_index(dataset: AnnotatedImages, local: Path) -> Index:
    """The index of annotated images below `local`, made where annotations, settings or the listing are new.

    A process checks for changes every few seconds, because it asks for the index for each city.

    Raises:
        UnreadableError: a file or folder is missing.
        DatasetError: the annotations are not in their format, or cannot be split as the settings say.
    """
    return _cached_index(dataset.model_dump_json(), local, int(time.monotonic() / _CHECK_SECONDS))


@lru_cache(maxsize=8)
def _cached_index(described: str, local: Path, now: int) -> Index:
    dataset = _SETTINGS.validate_json(described)
    folder = ImageFolder(dataset.root, dataset.images_within)
    places = [*dataset.annotation_places, *_group_files(dataset)]
    for place in places:
        if not place.exists():
            raise UnreadableError(f"{place}: no such file or folder; check the section dataset")
    files = [file for place in places for file in annotations_below(place)]
    resolved = dataset.model_dump(mode="json", exclude={"train_cities", "val_cities", "near_duplicates"})
    path = local / CACHE / f"{index_key(resolved, files, folder.files)}.sqlite"
    index = Index(path)
    if not index.exists():
        annotated = _without(read_annotations(dataset, folder), dataset.leave_out)
        annotated = with_crowds(annotated, dataset.crowds == "instances")
        groups = image_groups(dataset, [image.file for image in annotated.images])
        splits = _splits(dataset, annotated, groups)
        write_index(path, dataset.root, annotated, groups, splits, dataset.orientation, dataset.overlap)
        _remove_older(path.parent)
    return index


def _without(annotated: Annotated, frames: Sequence[str]) -> Annotated:
    """The data set without some frames, named by their ids."""
    named = frame_ids([image.file for image in annotated.images])
    if unknown := sorted(set(frames) - set(named.values())):
        raise DatasetError(f"dataset.leave_out: no frame {unknown[0]!r}; the table of `frames` lists their ids")
    kept = [image for image in annotated.images if named[image.file] not in frames]
    if not kept:
        raise DatasetError("dataset.leave_out: leaves no frame")
    return replace(annotated, images=kept)


def _group_files(dataset: AnnotatedImages) -> list[Path]:
    table = getattr(dataset.groups, "table", None)
    return [table] if table else []


def image_groups(dataset: AnnotatedImages, files: Sequence[str]) -> dict[str, str]:
    """The group of each file, with at most `max_groups` groups."""
    chosen = dataset.groups
    if chosen is None:
        by_folder = folder_groups(files)
        if len(set(by_folder.values())) == 1:
            return hash_groups(files, min(_BUCKETS[len(files) < _FEW], dataset.max_groups))
        return bounded(by_folder, dataset.max_groups)
    if isinstance(chosen, HashGroups):
        return hash_groups(files, chosen.buckets)
    if isinstance(chosen, FolderGroups):
        return bounded(folder_groups(files), dataset.max_groups)
    if isinstance(chosen, NameGroups):
        return bounded(name_groups(files, chosen.pattern), dataset.max_groups)
    return bounded(table_groups(files, chosen.table, chosen.column), dataset.max_groups)


def _splits(dataset: AnnotatedImages, annotated: Annotated, groups: Mapping[str, str]) -> dict[str, str]:
    """`train` or `val` of each file."""
    files = {image.file: image.split for image in annotated.images}
    if any(files.values()):
        if dataset.split is not None:
            raise DatasetError("dataset.split: the annotation files divide the images already; leave it out")
        return {file: split or TRAIN for file, split in files.items()}
    if dataset.split is None:
        return dict.fromkeys(files, TRAIN)
    if dataset.split.val_fraction is not None:
        by_group = split_by_fraction(groups, dataset.split.val_fraction, dataset.split.seed)
        return {file: by_group[groups[file]] for file in files}
    known = set(groups.values())
    unknown = [group for group in dataset.split.val_groups if group not in known]
    if unknown:
        raise DatasetError(
            f"dataset.split.val_groups: no group {unknown[0]!r}; there are {', '.join(sorted(known)[:20])}"
        )
    splits = {file: VAL if groups[file] in dataset.split.val_groups else TRAIN for file in files}
    if TRAIN not in splits.values():
        raise DatasetError("dataset.split.val_groups: names all groups; leave some to train on")
    return splits


def _remove_older(folder: Path) -> None:
    with suppress(OSError):
        found = sorted(folder.glob("*.sqlite"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in found[_KEPT:]:
            path.unlink(missing_ok=True)
