"""What each segmenter costs beside what it scores."""

from __future__ import annotations

from dataclasses import asdict, fields

import dagster as dg
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.stored import Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.evaluation.metrics.model_costs import Cost, measure
from instsynth_dagster.evaluation.tables.few_label_views import cost_view
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.graph import run_dimensions
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if "segmenter_costs" not in graph:
        return []

    @stored_asset(graph["segmenter_costs"], graph, group="evaluation", kinds={"pytorch"})
    def segmenter_costs(out: PartitionWriter, _: str, store: Store, dataset: Dataset, device: Device) -> Made:
        """Parameters, multiply-accumulates and milliseconds for a val frame, with AP as the mean over all runs. The
        milliseconds are this machine's, and differ from run to run."""
        runs = run_dimensions(settings)["run"]
        frame = next(store.read_many("frames", settings.dataset.val_cities).itertuples())
        image = dataset.image(frame)
        rows = []
        for name, recipe in settings.segmenters.items():
            folder = store.folder("trained_segmenters", f"{runs[0]}|{name}", "checkpoint")
            cost = measure(get_segmenter(recipe.kind).load(folder, recipe, device=device.name), image)
            scored = [store.require("segmentation_scores", f"{run}|{name}").summary for run in runs]
            means = pd.DataFrame(scored)[["ap", "ap50"]].mean()
            if cost:
                rows.append({"segmenter": name, **asdict(cost), **means})
        table = pd.DataFrame(rows, columns=["segmenter", *(field.name for field in fields(Cost)), "ap", "ap50"])
        # times differ from run to run, and what is stored does not
        out.add_table(table.drop(columns="milliseconds", errors="ignore"))
        out.summary["milliseconds"] = {row["segmenter"]: round(row["milliseconds"], 1) for row in rows}
        return Made({"costs": dg.MetadataValue.md(to_markdown(cost_view(table)))})

    return [segmenter_costs]
