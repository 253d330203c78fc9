"""What is repainted so that nobody is seen: every instance of the hidden classes, in every split."""

from __future__ import annotations

from itertools import islice
from typing import Any

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import PREVIEWED_CROPS, crops_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.refs import anonymised_dimensions
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.crops import cut_selected
from instsynth_dagster.synthesis.selection import every_instance
from resources.dataset import Dataset


@artifact(
    "anonymised/selected_instances",
    code_version="1",
    when=lambda settings: settings.anonymise,
    dimensions=anonymised_dimensions,
    settings=["anonymise.min_area", "selection.margin", "dataset.root"],
    reads=lambda at: [("frames", at["city"]), ("instances", at["city"])],
    group="anonymisation",
    kinds={"opencv"},
)
def anonymised_instances(
    out: PartitionWriter, partition: str, settings: Settings, store: DeclaredStore, dataset: Dataset
) -> Made:
    """Crops and masks of all instances of a class that is hidden, but for those that are too small to be painted; of
    train, val and test cities alike. They train nothing."""
    assert settings.anonymise is not None
    city, class_name = partition.split("|")
    instances = store.read("instances", city)
    chosen = every_instance(instances, class_name, settings.anonymise.min_area)
    sources = store.read("frames", city).set_index("frame_id", drop=False)
    for frame_id, rows in chosen.iloc[out.resumed_rows :].groupby("frame_id", sort=True):
        frame = sources.loc[frame_id]
        for row in cut_selected(dataset.image(frame), dataset.ids(frame), rows, settings.selection):
            row["source_sha256"] = frame.image_sha256
            out.add(row)
    out.summary["instances"] = len(chosen)
    metadata: dict[str, Any] = {"available": int((instances["class_name"] == class_name).sum())}
    if shown := list(islice(out.stored_rows(["instance_id", "crop_png"]), PREVIEWED_CROPS)):
        metadata["preview"] = crops_preview(shown, "crop_png", out.rows)
    return Made(metadata)
