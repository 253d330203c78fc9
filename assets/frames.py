"""The index of the data set."""

from __future__ import annotations

from assets.shared.declaration import artifact
from assets.shared.made import Made
from assets.shared.pictures import frames_preview
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.data.annotated_data import LOSS_COLUMNS
from instsynth_dagster.data.versions import dvc_revision
from instsynth_dagster.graph.data import annotations_of, files_of
from instsynth_dagster.graph.refs import all_cities
from resources.dataset import Dataset


@artifact(
    "frames",
    code_version="2",
    dimensions=lambda settings: {"city": all_cities(settings)},
    settings=["dataset.root"],
    reads=lambda at: [("demo_city", at["city"])] if at.settings.dataset.demo_city else [],
    values={"annotated": lambda at: annotations_of(at.settings, at["city"])},
    files=lambda at: files_of(at.settings, at["city"]),
    cities=lambda at: [at["city"]],
    group="data",
    kinds={"python"},
)
def frames(out: PartitionWriter, city: str, annotated: str, dataset: Dataset) -> Made:
    """Index of a city's frames: paths, sizes and sha256 of image and id map. Every file is decoded once, so that a
    truncated image, an 8-bit id map or a size mismatch is reported here, with its name.
    """
    rows = dataset.frame_table(city)
    out.add_table(rows)
    out.summary["frames"] = len(rows)
    out.summary.update({name: int(rows[name].sum()) for name in LOSS_COLUMNS if name in rows})
    if annotated:
        out.summary["annotations"] = annotated[:16]
    revision = dvc_revision(dataset.root) or "not tracked"
    return Made({"preview": frames_preview(dataset, rows), "dvc_revision": revision})
