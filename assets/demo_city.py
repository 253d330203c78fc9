"""The demo's data set."""

from __future__ import annotations

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import frames_preview
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph.data import split_of
from instsynth_dagster.graph.refs import all_cities
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset


@artifact(
    "demo_city",
    code_version="2",
    when=lambda settings: settings.dataset.demo_city,
    dimensions=lambda settings: {"city": all_cities(settings)},
    settings=["dataset.demo_city", "dataset.root"],
    values={"split": lambda at: split_of(at.settings, at["city"])},
    cities=lambda at: [at["city"]],
    group="data",
    kinds={"python", "opencv"},
)
def demo_city(out: PartitionWriter, city: str, settings: Settings, split: str, dataset: Dataset) -> Made:
    """Procedural street scenes of one city in exact Cityscapes layout, written below `dataset.root`.

    Deterministic: equal settings give equal bytes. It does not exist without `dataset.demo_city`.
    """
    from instsynth_dagster.demo.city import write_demo_city

    assert settings.dataset.demo_city is not None
    out.summary["frames"] = write_demo_city(dataset.root, split, city, settings.dataset.demo_city)
    rows = dataset.frame_table(city)
    out.add_table(rows)
    for directory in dataset.directories(city):
        out.declare_directory(directory)
    return Made({"preview": frames_preview(dataset, rows)})
