"""Partition definitions and mappings, derived from the graph so that Dagster and the stale set never disagree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import dagster as dg

from instsynth_dagster.graph.staleness import Asset

Graph = Mapping[str, Asset]


def partitions_definition(asset: Asset) -> dg.PartitionsDefinition | None:
    """None, or one list of keys; an asset of two dimensions has keys such as `aachen|car`.

    Dagster has partitions of two dimensions, but no mapping that says key by key which of them another asset reads:
    its stale marks and backfills would take every partition of a city for changed when one is. A list has one.
    """
    return dg.StaticPartitionsDefinition(asset.partitions) if asset.dimensions else None


def dependencies(asset: Asset, graph: Graph) -> list[dg.AssetDep]:
    """Upstream assets of `asset`, with the partition mapping that `asset.upstream` spells out key by key."""
    return [
        dg.AssetDep(asset_key(upstream), partition_mapping=_mapping(asset, graph[upstream], read_by))
        for upstream, read_by in readers(asset).items()
    ]


def readers(asset: Asset) -> dict[str, dict[str, list[str]]]:
    """For each upstream asset and each of its partitions that is read, the partitions of `asset` that read it."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for partition in asset.partitions:
        for upstream, upstream_partition in asset.upstream(partition):
            found[upstream][upstream_partition].append(partition)
    return found


def asset_key(key: str) -> dg.AssetKey:
    return dg.AssetKey(key.split("/"))


def _mapping(asset: Asset, upstream: Asset, read_by: Mapping[str, list[str]]) -> dg.PartitionMapping | None:
    if not upstream.dimensions:
        return None
    if not asset.dimensions:
        return dg.SpecificPartitionsPartitionMapping(list(read_by))
    if asset.partitions == upstream.partitions and all(readers == [key] for key, readers in read_by.items()):
        return dg.IdentityPartitionMapping()
    return dg.StaticPartitionMapping(dict(read_by))


def partition_tags(first: str, last: str) -> dict[str, str]:
    """Run tags that make Dagster run a range of partitions of one asset at once."""
    if first == last == "all":
        return {}
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}


def partitions_of_run(context: dg.AssetExecutionContext) -> Sequence[str]:
    return context.partition_keys if context.has_partition_key or context.has_partition_key_range else ["all"]
