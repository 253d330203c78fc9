"""Results of a finished evaluation for people and for DVC: a folder of small files with fixed names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from assets.shared.partitions import Graph
from instsynth_dagster.artifacts.costs import HOUR, Ledger
from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.artifacts.store import UNPARTITIONED, Store
from instsynth_dagster.artifacts.writer import PAGES
from instsynth_dagster.evaluation.tables.cost_tables import crop_costs, table_costs
from instsynth_dagster.evaluation.tables.curves import loss_curves
from instsynth_dagster.evaluation.tables.few_label_views import stored_views
from instsynth_dagster.evaluation.tables.tables import CITYSCAPES_AP
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.graph import TrainingSet
from instsynth_dagster.settings import CostSettings
from jobs.metrics import CURVES, METRICS, write_curves, write_metrics

VALUES, LOSS_COLUMNS, REPORT, COSTS = "metrics.json", "loss.csv", "report.html", "costs.md"
_SHOWN = ("table_1.md", "average_precision.md", "verdict.md")


def write_results(graph: Graph, store: Store, folder: Path, costs: CostSettings, lead: str = CITYSCAPES_AP) -> None:
    """Fill `folder` with metrics, loss curves, tables and report under fixed names, as far as the graph has them.

    Args:
        lead: the metric by which arms are compared, "ap" or "coco_ap".
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / COSTS, ("\n".join(cost_lines(graph, store, costs)) + "\n").encode())
    for asset, _, table in stored_views(store, graph, lead):
        write_atomically(folder / f"{asset}.md", to_markdown(table).encode() + b"\n")
    if "evaluation_tables" not in graph:
        return
    tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    for path in sorted(tables.glob("*.md")):
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(store.folder("report", UNPARTITIONED, PAGES) / REPORT, folder / REPORT)
    curves = loss_curves(store, graph["trained_segmenters"].partitions)
    ap = pd.read_parquet(tables / "average_precision.parquet")
    quality = store.read("image_quality") if "image_quality" in graph else pd.DataFrame()
    values = json.dumps(_values(ap, quality), indent=1, sort_keys=True)
    write_atomically(folder / VALUES, values.encode() + b"\n")
    write_atomically(folder / LOSS_COLUMNS, curves.to_csv(index=False).encode())
    write_metrics(folder / METRICS, ap, quality, lead)
    write_curves(folder / CURVES, curves)


def result_lines(graph: Graph, store: Store, lead: str = CITYSCAPES_AP) -> list[str]:
    """Tables, verdict and the path of the report, as lines of text; `lead` as for `write_results`."""
    further = [f"{title}\n\n{to_markdown(table)}\n" for _, title, table in stored_views(store, graph, lead)]
    if "evaluation_tables" not in graph:
        return ["", *further]
    tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    report = store.folder("report", UNPARTITIONED, PAGES) / REPORT
    return ["", *further, *((tables / name).read_text() for name in _SHOWN), f"report: {report.resolve()}"]


def cost_lines(graph: Graph, store: Store, costs: CostSettings) -> list[str]:
    """Cost of crops and tables, and total use of the device, as lines of text."""
    manifest_of = store.snapshot()
    tables = [make(graph, manifest_of, costs) for make in (crop_costs, table_costs)]
    spent = Ledger(store.storage).spent()
    budget = "" if costs.device_hours is None else f" of {costs.device_hours:g} hours"
    total = f"device: {spent / HOUR:.3f} hours{budget}, unfinished and replaced work included"
    return [*(to_markdown(table.astype(str)) for table in tables if len(table)), total]


def _values(ap: pd.DataFrame, quality: pd.DataFrame) -> dict[str, Any]:
    """Scores of each segmenter and arm, 0..1, and the image metrics of each generator, nested by name."""
    metrics: dict[str, Any] = {"average_precision": {}}
    for row in ap.to_dict("records"):
        names = [name for name in ("ap", "ap50", "coco_ap", "coco_ap50", "pq", "miou") if row[name] == row[name]]
        arm = TrainingSet(row["arm"], row["percent"]).name
        kept = {name: round(float(row[name]), 4) for name in names}
        metrics["average_precision"].setdefault(row["segmenter"], {})[arm] = kept
    if len(quality):
        rows = quality.set_index("generator").to_dict("index")
        metrics["image_quality"] = {
            name: {metric: round(float(value), 6) for metric, value in row.items()} for name, row in rows.items()
        }
    return metrics
