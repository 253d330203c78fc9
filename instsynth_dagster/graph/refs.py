"""Lists of partitions that several declarations use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.graph.arms import run_dimensions
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.settings import Settings


def each(asset: str, partitions: Iterable[str]) -> list[PartitionRef]:
    """The given partitions of an asset."""
    return [(asset, partition) for partition in partitions]


def annotated(cities: Sequence[str]) -> list[PartitionRef]:
    """The labelled frames of cities, together with the check that keeps val frames out."""
    return [("splits", UNPARTITIONED), *each("frames", cities), *each("instances", cities)]


def all_cities(settings: Settings) -> tuple[str, ...]:
    """Train cities, then the cities on which segmenters are scored."""
    return (*settings.dataset.train_cities, *scored_cities(settings))


def scored_cities(settings: Settings) -> tuple[str, ...]:
    """Val cities, then test cities."""
    return (*settings.dataset.val_cities, *settings.dataset.test_cities)


def city_classes(settings: Settings) -> list[str]:
    """Partition keys of everything that is made for each train city and class."""
    return [f"{city}|{name}" for city in settings.dataset.train_cities for name in settings.classes]


def city_class_dimensions(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Dimensions of everything that is made for each train city and class."""
    return {"city": settings.dataset.train_cities, "class": settings.classes}


def anonymised_dimensions(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Dimensions of repaintings that anonymise: every city, and the hidden classes that have prompts."""
    hidden = settings.anonymise.classes if settings.anonymise else ()
    return {"city": all_cities(settings), "class": tuple(name for name in settings.classes if name in hidden)}


def captioned_classes(settings: Settings) -> tuple[str, ...]:
    """Classes with a template that contains {description}."""
    return tuple(name for name in settings.classes if settings.prompts[name].wants("description"))


def words_for(settings: Settings, cities: Sequence[str], classes: Iterable[str]) -> list[PartitionRef]:
    """Sources of the words for placeholders in prompts of classes, for instances in these cities: the light of their
    frames, and captions of instances in train cities.
    """
    classes = tuple(classes)
    lit = any(settings.prompts[name].wants("lighting") for name in classes)
    captioned = [name for name in captioned_classes(settings) if name in classes]
    captions = [f"{city}|{name}" for city in cities for name in captioned]
    return [*each("lighting", cities if lit else ()), *each("captions", captions)]


def all_runs(settings: Settings) -> list[str]:
    """Keys `<run>|<segmenter>` of every training."""
    runs = run_dimensions(settings)
    return [f"{run}|{segmenter}" for run in runs["run"] for segmenter in runs["segmenter"]]


def first_runs(settings: Settings) -> list[str]:
    """The key of the first training of each segmenter."""
    runs = run_dimensions(settings)
    return [f"{runs['run'][0]}|{segmenter}" for segmenter in runs["segmenter"]]
