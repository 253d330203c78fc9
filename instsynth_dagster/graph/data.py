"""Cities and files of the data set, for declarations."""

from __future__ import annotations

import hashlib
from pathlib import Path

from instsynth_dagster.artifacts.file_digests import FileDigests
from instsynth_dagster.data.formats.cityscapes import LABEL_FILES, city_of, label_files
from instsynth_dagster.data.labels import labels_digest
from instsynth_dagster.data.opening import open_index
from instsynth_dagster.data.versions import READ_SUFFIXES, city_files
from instsynth_dagster.graph.refs import all_cities
from instsynth_dagster.settings import AnnotatedImages, Settings
from instsynth_dagster.settings.formats import DatasetSettings

FILE_DIGESTS = ".cache/files.sqlite"
"""Digests of the data set's files, below the local root of the artifacts."""


def files_of(settings: Settings, city: str) -> list[Path]:
    """The files of a city that the graph reads and that belong to no other city: all files of a Cityscapes tree, or
    only the images where annotation files cover many cities.
    """
    dataset = settings.dataset
    if not isinstance(dataset, AnnotatedImages):
        return tree_files(dataset, city)
    files, _ = open_index(dataset, settings.artifacts.local).signature(city)
    return [dataset.root / file for file in files]


def tree_files(dataset: DatasetSettings, city: str, suffixes: tuple[str, ...] = READ_SUFFIXES) -> list[Path]:
    """`city_files` of a Cityscapes tree but for the frames that are left out."""
    absent = tuple(f"{frame_id}_" for frame_id in dataset.leave_out if city_of(frame_id) == city)
    return [path for path in city_files(dataset.root, city, suffixes) if not path.name.startswith(absent)]


def label_files_of(settings: Settings) -> list[Path]:
    """Label files of a Cityscapes tree, including those that nothing else reads; empty where annotation files cover
    many frames, whose digests `frames` holds.
    """
    dataset = settings.dataset
    if isinstance(dataset, AnnotatedImages):
        return []
    images = [path for city in all_cities(settings) for path in tree_files(dataset, city, (LABEL_FILES[0],))]
    return [file for path in images for file in label_files(path)]


def annotations_of(settings: Settings, city: str) -> str:
    """Digest of the inputs of a city beside `files_of`: its part of the annotation files, a label table other than the
    format's own, and the frames that are left out; "" where there is none of these.
    """
    dataset = settings.dataset
    if isinstance(dataset, AnnotatedImages):
        return open_index(dataset, settings.artifacts.local).signature(city)[1]
    labels = "" if settings.label_table is None else labels_digest(settings.label_table)
    absent = sorted(frame_id for frame_id in dataset.leave_out if city_of(frame_id) == city)
    return hashlib.sha256("\n".join([labels, *absent]).encode()).hexdigest() if absent else labels


def data_signature(settings: Settings) -> str:
    """Signature of all files of the data set that the graph reads, and of all annotations in them."""
    cities = all_cities(settings)
    files = [path for city in cities for path in files_of(settings, city)]
    signed = FileDigests(settings.artifacts.local / FILE_DIGESTS).signature(files, settings.dataset.root)
    annotated = [found for city in cities if (found := annotations_of(settings, city))]
    return hashlib.sha256("\n".join([signed, *annotated]).encode()).hexdigest() if annotated else signed


def split_of(settings: Settings, city: str) -> str:
    """Folder of a demo city in the Cityscapes tree: "train" for a train city, otherwise "val"."""
    return "train" if city in settings.dataset.train_cities else "val"
