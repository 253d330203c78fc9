"""Partition definitions and mappings, derived from the graph so that Dagster and the stale set never disagree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import dagster as dg

from instsynth_dagster.graph.staleness import Asset

Graph = Mapping[str, Asset]


def partitions_definition(asset: Asset) -> dg.PartitionsDefinition | None:
    """None, one static dimension, or two (`city|class`, `run|segmenter`)."""
    definitions = {name: dg.StaticPartitionsDefinition(list(keys)) for name, keys in asset.dimensions.items()}
    if not definitions:
        return None
    return dg.MultiPartitionsDefinition(definitions) if len(definitions) > 1 else next(iter(definitions.values()))


def dependencies(asset: Asset, graph: Graph) -> list[dg.AssetDep]:
    """Upstream assets of `asset`, with the partition mapping that `asset.upstream` spells out key by key."""
    readers: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for partition in asset.partitions:
        for upstream, upstream_partition in asset.upstream(partition):
            readers[upstream][upstream_partition].add(partition)
    return [
        dg.AssetDep(asset_key(upstream), partition_mapping=_mapping(asset, graph[upstream], read_by))
        for upstream, read_by in readers.items()
    ]


def asset_key(key: str) -> dg.AssetKey:
    return dg.AssetKey(key.split("/"))


def _mapping(asset: Asset, upstream: Asset, read_by: Mapping[str, set[str]]) -> dg.PartitionMapping | None:
    if not asset.dimensions or not upstream.dimensions:
        return dg.AllPartitionMapping() if upstream.dimensions else None
    if asset.dimensions == upstream.dimensions:
        return dg.IdentityPartitionMapping()
    if len(upstream.dimensions) > 1:
        return dg.AllPartitionMapping()  # Dagster has no key-by-key mapping from two dimensions to one
    return dg.StaticPartitionMapping({key: sorted(partitions) for key, partitions in read_by.items()})


def partition_tags(first: str, last: str) -> dict[str, str]:
    """Run tags that make Dagster run a range of partitions of one asset at once."""
    if first == last == "all":
        return {}
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def partitions_of_run(context: dg.AssetExecutionContext) -> Sequence[str]:
    return context.partition_keys if context.has_partition_key or context.has_partition_key_range else ["all"]
