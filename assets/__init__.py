"""One file for each artifact, with its declaration and its body.

Files of this package are discovered; adding an artifact needs no line elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from assets.shared.declaration import GROUPS, Artifact, Declaration, Shared
from instsynth_dagster.settings import Settings

if TYPE_CHECKING:
    import dagster as dg


@cache
def declarations() -> tuple[Declaration, ...]:
    """Every artifact that a file of this package declares, by file name."""
    return tuple(_found())


def _found() -> Iterator[Declaration]:
    for module in sorted(info.name for info in iter_modules(__path__) if not info.ispkg):
        name = f"{__name__}.{module}"
        named = vars(import_module(name)).values()
        yield from (value for value in named if isinstance(value, Declaration) and value.module == name)


def build_graph(settings: Settings) -> dict[str, Artifact]:
    """All artifacts of a params file by key, in topological order. Imports neither Dagster nor a model library."""
    shared = Shared(settings)
    found = {made.key: made for declaration in declarations() for made in declaration.artifacts(settings, shared)}
    above = {key: {name for part in made.partitions for name, _ in made.upstream(part)} for key, made in found.items()}
    return {key: found[key] for key in _in_order(found, above)}


def _in_order(found: Mapping[str, Artifact], above: Mapping[str, set[str]]) -> Iterator[str]:
    """Keys in topological order, with ties resolved by group and name."""
    sorter = TopologicalSorter(above)
    sorter.prepare()
    ready: list[tuple[int, str]] = []
    while sorter:
        for key in sorter.get_ready():
            heappush(ready, (GROUPS.index(found[key].declaration.group), key))
        _, key = heappop(ready)
        yield key
        sorter.done(key)


def build_assets(graph: Mapping[str, Artifact]) -> list[dg.AssetsDefinition]:
    """The Dagster assets of a params file, one for each artifact of `graph`."""
    from assets.shared.stored import stored_asset

    return [stored_asset(made, graph) for made in graph.values()]
