"""Dagster's partition mappings against the graph, partition by partition."""

from __future__ import annotations

from collections import defaultdict

import dagster as dg
import pytest

from assets import build_graph
from assets.shared.partitions import asset_key, dependencies, partition_of, partitions_definition, shown_key
from instsynth_dagster.settings import load_settings
from tests.settings.test_settings import ROOT


@pytest.mark.parametrize(
    "params", ["params.yaml", "profiles/refined.yaml", "profiles/few_shot.yaml", "profiles/semantics.yaml"]
)
def test_dagster_reads_what_the_graph_says_and_nothing_else(params, monkeypatch):
    monkeypatch.chdir(ROOT)
    graph = build_graph(load_settings(ROOT / params))
    for asset in graph.values():
        own = partitions_definition(asset)
        read = defaultdict(set)
        for partition in asset.partitions:
            for upstream, key in asset.upstream(partition):
                read[upstream, partition].add(key)
        for dependency in dependencies(asset, graph):
            upstream = next(key for key in graph if asset_key(key) == dependency.asset_key)
            above = partitions_definition(graph[upstream])
            if above is None:
                assert dependency.partition_mapping is None
                continue
            for partition in asset.partitions:
                chosen = own.subset_with_partition_keys([shown_key(partition)]) if own else None
                found = dependency.partition_mapping.get_upstream_mapped_partitions_result_for_partitions(
                    chosen, own, above
                )
                keys = set(map(partition_of, found.partitions_subset.get_partition_keys()))
                assert keys == read[upstream, partition], (asset.key, partition, upstream)


def test_the_keys_are_a_list_in_the_graphs_order():
    graph = build_graph(load_settings(ROOT / "params.yaml"))
    definition = partitions_definition(graph["selected_instances"])
    assert isinstance(definition, dg.StaticPartitionsDefinition)
    keys = definition.get_partition_keys()
    assert [partition_of(key) for key in keys] == graph["selected_instances"].partitions
    assert not any("|" in key for key in keys)  # Dagster's UI cuts them there
    assert partitions_definition(graph["splits"]) is None
