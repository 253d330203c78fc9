"""Cities and files of the data set, as declarations ask for them."""

from __future__ import annotations

from instsynth_dagster.artifacts.file_digests import FileDigests
from instsynth_dagster.data.versions import city_files
from instsynth_dagster.graph.refs import all_cities
from instsynth_dagster.settings import Settings

FILE_DIGESTS = ".cache/files.sqlite"
"""Digests of the data set's files, below the local root of the artifacts."""


def data_signature(settings: Settings) -> str:
    """Of all files of the data set that the graph reads."""
    root = settings.dataset.root
    files = [path for city in all_cities(settings) for path in city_files(root, city)]
    return FileDigests(settings.artifacts.local / FILE_DIGESTS).signature(files, root)


def split_of(settings: Settings, city: str) -> str:
    return "train" if city in settings.dataset.train_cities else "val"
