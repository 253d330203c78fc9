"""The effect of synthesis on few-shot instance segmentation."""

from __future__ import annotations

import pandas as pd

from assets.fsis_scores import tasks
from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.evaluation.tables.few_label_views import fsis_view
from instsynth_dagster.evaluation.tables.tables import leading_metric
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.few_shot.instances import summary
from instsynth_dagster.graph.refs import each
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset


@artifact(
    "fsis_table",
    code_version="2",
    when=lambda settings: settings.few_shot_instances,
    settings=["evaluation"],
    reads=lambda at: each("fsis_scores", tasks(at.settings)),
    group="few_shot",
    kinds={"pandas"},
)
def fsis_table(out: PartitionWriter, _: str, settings: Settings, store: DeclaredStore, dataset: Dataset) -> Made:
    """Mean and deviation over seeds of each system and K, and the effect of synthesis (95 % interval over seeds)."""
    table = summary(pd.concat([store.read("fsis_scores", task) for task in store.declared("fsis_scores")]))
    out.add_table(table)
    lead = leading_metric(dataset.labels, settings.evaluation.protocol)
    return Made({"fsis": Markdown(to_markdown(fsis_view(table, lead)))})
