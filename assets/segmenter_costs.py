"""The cost of each segmenter beside its scores."""

from __future__ import annotations

from dataclasses import asdict, fields

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.evaluation.metrics.model_costs import Cost, measure
from instsynth_dagster.evaluation.tables.few_label_views import cost_view
from instsynth_dagster.evaluation.tables.tables import leading_metric
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.graph.refs import all_runs, each, first_runs
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device


@artifact(
    "segmenter_costs",
    code_version="1",
    when=lambda settings: settings.segmenters and settings.dataset.val_cities,
    settings=["segmenters.*:inference", "dataset.root", "evaluation"],
    reads=lambda at: [
        *each("trained_segmenters", first_runs(at.settings)),
        *each("segmentation_scores", all_runs(at.settings)),
        *each("frames", at.settings.dataset.val_cities),
    ],
    group="evaluation",
    kinds={"pytorch"},
)
def segmenter_costs(
    out: PartitionWriter, _: str, settings: Settings, store: DeclaredStore, dataset: Dataset, device: Device
) -> Made:
    """Parameters, multiply-accumulates and milliseconds for a val frame, with AP as the mean over all runs. The
    milliseconds are those of this machine, and differ from run to run.
    """
    frame = next(store.read_many("frames", store.declared("frames")).itertuples())
    image = dataset.image(frame)
    rows = []
    for trained in store.declared("trained_segmenters"):
        name = trained.split("|")[1]
        recipe = settings.segmenters[name]
        folder = store.folder("trained_segmenters", trained, "checkpoint")
        predictor = get_segmenter(recipe.kind).load(folder, recipe, labels=dataset.labels, device=device.name)
        cost = measure(predictor, image)
        runs = [run for run in store.declared("segmentation_scores") if run.split("|")[1] == name]
        means = pd.DataFrame([store.require("segmentation_scores", run).summary for run in runs])[["ap", "ap50"]].mean()
        if cost:
            rows.append({"segmenter": name, **asdict(cost), **means})
    table = pd.DataFrame(rows, columns=["segmenter", *(field.name for field in fields(Cost)), "ap", "ap50"])
    # times differ from run to run; the digest must not
    out.add_table(table.drop(columns="milliseconds", errors="ignore"))
    out.summary["milliseconds"] = {row["segmenter"]: round(row["milliseconds"], 1) for row in rows}
    lead = leading_metric(dataset.labels, settings.evaluation.protocol)
    return Made({"costs": Markdown(to_markdown(cost_view(table, lead)))})
