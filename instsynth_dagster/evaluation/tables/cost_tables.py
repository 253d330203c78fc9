"""The cost of crops and tables: device seconds from the manifests, and money where the settings name a price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from instsynth_dagster.artifacts.costs import HOUR
from instsynth_dagster.graph.staleness import Asset, ManifestOf, PartitionRef
from instsynth_dagster.settings import CostSettings

RESULTS = {
    "evaluation_tables": "Tables I to III",
    "image_quality": "Table IV",
    "gfss_table": "few-shot semantics",
    "fsis_table": "few-shot instances",
    "grouping_scores": "instances of semantic maps",
}
"""Assets that hold results, and their titles."""


def crop_costs(graph: Mapping[str, Asset], manifest_of: ManifestOf, costs: CostSettings) -> pd.DataFrame:
    """One row per generator: generator, crops, accepted, device_seconds (painting and scoring), the same per accepted
    crop, and their price. Generators with missing windows are left out.
    """
    rows = []
    for key, asset in graph.items():
        generator, _, last = key.rpartition("/")
        if last != "inpainted_crops":
            continue
        windows = [manifest_of(f"{generator}/is_cityscapes", partition) for partition in asset.partitions]
        if any(manifest is None for manifest in windows):
            continue
        accepted = sum(m.summary["accepted"] for m in windows if m)
        judged = f"{generator}/crop_quality"
        parts = [(name, part) for name in (key, judged) if name in graph for part in graph[name].partitions]
        seconds = _device_seconds(parts, manifest_of)
        crops = sum(manifest.rows for part in asset.partitions if (manifest := manifest_of(key, part)))
        row = {"generator": generator, "crops": crops, "accepted": accepted, "device_seconds": seconds}
        rows.append(row | _each("accepted crop", seconds, accepted, costs))
    return pd.DataFrame(rows)


def table_costs(graph: Mapping[str, Asset], manifest_of: ManifestOf, costs: CostSettings) -> pd.DataFrame:
    """One row per finished result: table, partitions (all that it was made from), device_seconds, and their price."""
    rows = []
    for key, name in RESULTS.items():
        if key in graph and manifest_of(key, graph[key].partitions[0]):
            made_from = _above(graph, [(key, part) for part in graph[key].partitions])
            seconds = _device_seconds(made_from, manifest_of)
            row = {"table": name, "partitions": len(made_from), "device_seconds": seconds}
            rows.append(row | _price("price", seconds, costs))
    return pd.DataFrame(rows)


def _above(graph: Mapping[str, Asset], refs: Iterable[PartitionRef]) -> set[PartitionRef]:
    """Partitions and everything that they were made from."""
    found: set[PartitionRef] = set()
    waiting = list(refs)
    while waiting:
        ref = waiting.pop()
        if ref not in found:
            found.add(ref)
            waiting += graph[ref[0]].upstream(ref[1])
    return found


def _device_seconds(refs: Iterable[PartitionRef], manifest_of: ManifestOf) -> float:
    return round(sum(manifest.device_seconds for ref in refs if (manifest := manifest_of(*ref))), 1)


def _each(what: str, seconds: float, count: int, costs: CostSettings) -> dict[str, float | str]:
    each = seconds / count if count else float("nan")
    return {f"seconds per {what}": round(each, 3)} | _price(f"price per {what}", each, costs)


def _price(heading: str, seconds: float, costs: CostSettings) -> dict[str, str]:
    if costs.price_per_hour is None:
        return {}
    return {heading: f"{seconds / HOUR * costs.price_per_hour:.4f} {costs.currency}"}
