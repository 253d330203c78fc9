"""Instances to be repainted for anonymisation: every instance of the hidden classes, in every split."""

from __future__ import annotations

from assets.shared.cutting import cut_into
from assets.shared.declaration import artifact
from assets.shared.made import Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.refs import anonymised_dimensions
from instsynth_dagster.settings import Settings
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
    """Crops and masks of all instances of a hidden class, except those that are too small to be painted, in train, val
    and test cities. They are not used for training.
    """
    assert settings.anonymise is not None
    city, class_name = partition.split("|")
    instances = store.read("instances", city)
    chosen = every_instance(instances, class_name, settings.anonymise.min_area)
    preview = cut_into(out, chosen, store.read("frames", city), dataset, settings.selection)
    return Made({"available": int((instances["class_name"] == class_name).sum()), **preview})
