"""The data set before any synthesis: frames, splits, instances."""

from __future__ import annotations

from collections.abc import Iterator

from instsynth_dagster.artifacts.file_digests import FileDigests
from instsynth_dagster.data.versions import city_files
from instsynth_dagster.graph.refs import each
from instsynth_dagster.graph.staleness import Asset
from instsynth_dagster.settings import Settings

_FILE_DIGESTS = ".cache/files.sqlite"


def data_assets(settings: Settings) -> Iterator[Asset]:
    """The (demo) data set, the index of its frames and instances, and the gate between its splits."""
    dataset = settings.dataset
    cities = {"city": (*dataset.train_cities, *dataset.val_cities)}
    digests = FileDigests(settings.artifacts.local / _FILE_DIGESTS)
    demo = dataset.demo_city
    if demo:
        yield Asset(
            key="demo_city",
            code_version="1",
            dimensions=cities,
            settings=lambda city: {
                "demo_city": demo.model_dump(),
                "root": str(dataset.root),
                "split": split_of(settings, city),
            },
            upstream=lambda city: [],
        )
    yield Asset(
        key="frames",
        code_version="2",
        dimensions=cities,
        settings=lambda city: str(dataset.root),
        upstream=lambda city: [("demo_city", city)] if demo else [],
        files=lambda city: digests.signature(city_files(dataset.root, city), dataset.root),
    )
    yield Asset(
        key="splits",
        code_version="2",
        dimensions={},
        settings=lambda _: [dataset.train_cities, dataset.val_cities],
        upstream=lambda _: each("frames", list(cities["city"])),
    )
    yield Asset(
        key="instances",
        code_version="1",
        dimensions=cities,
        settings=lambda city: str(dataset.root),
        upstream=lambda city: [("frames", city)],
    )


def data_signature(settings: Settings) -> str:
    """Of all files of the data set that the graph reads."""
    dataset = settings.dataset
    files = [path for city in (*dataset.train_cities, *dataset.val_cities) for path in city_files(dataset.root, city)]
    return FileDigests(settings.artifacts.local / _FILE_DIGESTS).signature(files, dataset.root)


def split_of(settings: Settings, city: str) -> str:
    return "train" if city in settings.dataset.train_cities else "val"
