"""The index of the data set."""

from __future__ import annotations

from assets.shared.declaration import artifact
from assets.shared.made import Made, Markdown
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.data.versions import city_files, dvc_revision
from instsynth_dagster.graph.refs import all_cities
from resources.dataset import Dataset


@artifact(
    "frames",
    code_version="2",
    dimensions=lambda settings: {"city": all_cities(settings)},
    settings=["dataset.root"],
    reads=lambda at: [("demo_city", at["city"])] if at.settings.dataset.demo_city else [],
    files=lambda at: city_files(at.settings.dataset.root, at["city"]),
    cities=lambda at: [at["city"]],
    group="data",
    kinds={"python"},
)
def frames(out: PartitionWriter, city: str, dataset: Dataset) -> Made:
    """Index of a city's frames: paths, sizes and sha256 of image and id map. Every file is decoded once, so a
    truncated PNG, an 8-bit id map or a size mismatch stops here, by name."""
    rows = dataset.frame_table(city)
    out.add_table(rows)
    out.summary["frames"] = len(rows)
    revision = dvc_revision(dataset.root) or "not tracked"
    return Made({"preview": Markdown(dataset.preview(rows)), "dvc_revision": revision})
