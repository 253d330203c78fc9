"""Partition definitions and mappings, derived from the graph so that Dagster and staleness always agree."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import dagster as dg

from instsynth_dagster.graph.staleness import Asset

Graph = Mapping[str, Asset]


def partitions_definition(asset: Asset) -> dg.PartitionsDefinition | None:
    """None, or one list of keys; an asset of two dimensions has keys such as `aachen/car`.

    Dagster supports partitions of two dimensions, but has no mapping for them that lists key by key what another asset
    reads: its stale marks and backfills would treat every partition of a city as changed when one is. For a list it has
    one.
    """
    return dg.StaticPartitionsDefinition([shown_key(key) for key in asset.partitions]) if asset.dimensions else None


def shown_key(partition: str) -> str:
    """Dagster's key for a partition: `aachen/car` for `aachen|car`. Its UI splits every key at "|", the separator of
    its own two-dimensional partitions, before it preselects one in the dialog of "Materialize".
    """
    return partition.replace("|", "/")


def partition_of(key: str) -> str:
    """The partition with Dagster's key `key`; no name of a city, class or run contains a "/"."""
    return key.replace("/", "|")


def dependencies(asset: Asset, graph: Graph) -> list[dg.AssetDep]:
    """Upstream assets of `asset`, with the partition mapping that lists `asset.upstream` key by key."""
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
    """Dagster's key of an asset."""
    return dg.AssetKey(key.split("/"))


def _mapping(asset: Asset, upstream: Asset, read_by: Mapping[str, list[str]]) -> dg.PartitionMapping | None:
    if not upstream.dimensions:
        return None
    if not asset.dimensions:
        return dg.SpecificPartitionsPartitionMapping([shown_key(key) for key in read_by])
    if asset.partitions == upstream.partitions and all(readers == [key] for key, readers in read_by.items()):
        return dg.IdentityPartitionMapping()
    shown = {shown_key(key): [shown_key(reader) for reader in readers] for key, readers in read_by.items()}
    return dg.StaticPartitionMapping(shown)


def partition_tags(first: str, last: str) -> dict[str, str]:
    """Run tags with which Dagster executes a range of partitions of one asset in one run."""
    if first == last == "all":
        return {}
    return {
        "dagster/asset_partition_range_start": shown_key(first),
        "dagster/asset_partition_range_end": shown_key(last),
    }


def partitions_of_run(context: dg.AssetExecutionContext) -> Sequence[str]:
    """Partitions that a run makes, in the graph's spelling."""
    if context.has_partition_key or context.has_partition_key_range:
        return [partition_of(key) for key in context.partition_keys]
    return ["all"]
