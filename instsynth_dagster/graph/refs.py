"""Lists of partitions that descriptions of the graph share."""

from __future__ import annotations

from collections.abc import Sequence

from instsynth_dagster.artifacts.store import UNPARTITIONED
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.settings import Settings

SPEED_ONLY = {"batch_size", "mirrors"}
"""Generator settings that change how fast or from where, never what comes out."""


def each(asset: str, partitions: Sequence[str]) -> list[PartitionRef]:
    """The given partitions of an asset."""
    return [(asset, partition) for partition in partitions]


def annotated(cities: Sequence[str]) -> list[PartitionRef]:
    """The labelled frames of cities, behind the gate that keeps val frames out."""
    return [("splits", UNPARTITIONED), *each("frames", cities), *each("instances", cities)]


def city_classes(settings: Settings) -> list[str]:
    """Keys of everything that is made for each train city and class."""
    return [f"{city}|{name}" for city in settings.dataset.train_cities for name in settings.classes]


def city_class_dimensions(settings: Settings) -> dict[str, tuple[str, ...]]:
    return {"city": settings.dataset.train_cities, "class": settings.classes}
