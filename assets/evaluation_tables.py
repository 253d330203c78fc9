"""Tables I to III: the effect of synthesis."""

from __future__ import annotations

from collections.abc import Sequence

from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.evaluation.tables.tables import Run, leading_metric
from instsynth_dagster.evaluation.tables.tabulate import (
    markdown_of,
    read_runs,
    tables_of,
    tables_of_test_cities,
    write_tables,
)
from instsynth_dagster.graph import training_sets
from instsynth_dagster.graph.refs import all_runs, each, scored_cities
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset


@artifact(
    "evaluation_tables",
    code_version="5",
    when=lambda settings: settings.segmenters and settings.dataset.val_cities,
    settings=[
        "seed",
        "classes",
        "arms",
        "label_percents",
        "segmenters.*:recipe",
        "selection.policy",
        "selection.k",
        "dataset.train_cities",
        "dataset.val_cities",
        "dataset.test_cities",
        "dataset.root",
        "evaluation",
    ],
    reads=lambda at: [
        *each("training_sets", [data.name for data in training_sets(at.settings)]),
        *each("segmentation_scores", all_runs(at.settings)),
        *each("frames", scored_cities(at.settings)),
    ],
    group="evaluation",
    kinds={"cityscapes", "coco"},
)
def evaluation_tables(out: PartitionWriter, _: str, settings: Settings, store: DeclaredStore, dataset: Dataset) -> Made:
    """Tables I to III: instances per class and arm, scores of each segmenter and arm (mean and deviation over seeds),
    and every arm's difference to its baselines with a bootstrap interval over val frames and seeds, over all instances,
    by class and by size; scores and differences on each test city separately.
    """

    def runs_on(cities: Sequence[str]) -> list[Run]:
        frames = store.read_many("frames", cities)
        truth = {row.frame_id: dataset.ids(row) for row in frames.itertuples()}
        return read_runs(store, store.declared("segmentation_scores"), truth, settings, dataset.labels)

    lead = leading_metric(dataset.labels, settings.evaluation.protocol)
    tables = tables_of(runs_on(settings.dataset.val_cities), store, settings, dataset.labels, lead)
    tables |= tables_of_test_cities({city: runs_on([city]) for city in settings.dataset.test_cities}, settings, lead)
    markdown = markdown_of(tables, settings, lead)
    write_tables(tables, markdown, out.folder("tables"))
    out.summary["verdict"] = markdown["verdict"]
    first = {"verdict": markdown["verdict"], **markdown}
    return Made({name: Markdown(text) for name, text in first.items()})
