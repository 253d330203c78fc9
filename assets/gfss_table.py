"""The effect of synthesis on generalised few-shot segmentation."""

from __future__ import annotations

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.evaluation.tables.few_label_views import gfss_view
from instsynth_dagster.evaluation.tables.views import to_markdown
from instsynth_dagster.few_shot.folds import FOLDS
from instsynth_dagster.few_shot.gfss import summary
from instsynth_dagster.graph.refs import each


@artifact(
    "gfss_table",
    code_version="1",
    when=lambda settings: settings.few_shot,
    reads=lambda at: each("gfss_scores", [str(fold) for fold in range(FOLDS)]),
    group="few_shot",
    kinds={"pandas"},
)
def gfss_table(out: PartitionWriter, _: str, store: DeclaredStore) -> Made:
    """Mean over the folds, deviation over seeds, with and without synthesis, in both background conventions."""
    folds = store.declared("gfss_scores")
    table = summary(pd.concat([store.read("gfss_scores", fold).assign(fold=fold) for fold in folds]))
    out.add_table(table)
    return Made({"gfss": Markdown(to_markdown(gfss_view(table)))})
