"""The index of annotated instances."""

from __future__ import annotations

from typing import Any

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.refs import all_cities
from resources.dataset import Dataset


@artifact(
    "instances",
    code_version="2",
    dimensions=lambda settings: {"city": all_cities(settings)},
    settings=["dataset.root"],
    reads=lambda at: [("frames", at["city"])],
    group="data",
    kinds={"python", "opencv"},
)
def instances(out: PartitionWriter, city: str, dataset: Dataset, store: DeclaredStore) -> Made:
    """One row per annotated instance and group of a city: area (pixels), box (xyxy), border contact, number of
    components, and the label on which it stands.
    """
    rows = dataset.instance_table(store.read("frames", city))
    out.add_table(rows)
    out.summary["instances"] = int((~rows["is_group"]).sum()) if len(rows) else 0
    return Made(_counts(rows))


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    if rows.empty:
        return {}
    single = rows[~rows["is_group"]]
    return {f"instances/{name}": int(count) for name, count in single["class_name"].value_counts().items()}
