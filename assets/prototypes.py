"""Prototypes of the classes: APF's global prototypes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from assets.shared.declaration import artifact
from assets.shared.made import Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.graph.refs import each
from instsynth_dagster.refinement.support import dataset_prototypes, support_frames, to_table
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.refining import Refining


@artifact(
    "prototypes",
    code_version="1",
    when=lambda settings: settings.refinement,
    settings=["refinement.features", "refinement.support_frames", "classes", "dataset.root"],
    reads=lambda at: [("splits", UNPARTITIONED), *each("frames", at.settings.dataset.train_cities)],
    group="refinement",
    kinds={"pytorch"},
)
def prototypes(
    out: PartitionWriter, _: str, settings: Settings, store: DeclaredStore, dataset: Dataset, refining: Refining
) -> Made:
    """A feature vector for each class and one for the background: area-weighted means over real frames of the
    train cities, from a frozen extractor (APF's global prototypes)."""
    assert settings.refinement is not None
    count = settings.refinement.support_frames

    def frames() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for city in store.declared("frames"):
            rows = store.read("frames", city).set_index("frame_id", drop=False)
            for frame_id in support_frames(rows.index.tolist(), count):
                yield dataset.image(rows.loc[frame_id]), dataset.ids(rows.loc[frame_id])

    extract = refining.extractor(settings.refinement.features)
    found = dataset_prototypes(frames(), extract, settings.classes, dataset.labels)
    out.add_table(to_table(found))
    likeness = {name: round(float(vector @ found.background), 3) for name, vector in found.classes.items()}
    out.summary["classes"] = len(found.classes)
    return Made({"cosine_with_background": likeness})
