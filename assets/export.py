"""The windows as other tools read them."""

from __future__ import annotations

from itertools import islice

import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Made
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import window_arms
from instsynth_dagster.graph.refs import city_classes, each
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.export import exported_files, write_export

FILES_PER_PART = 10_000
"""Of an export's list, which is not held as a whole."""


@artifact(
    "{member}/export",
    code_version="3",
    members=lambda settings: window_arms(settings) if settings.artifacts.exports else [],
    settings=["artifacts.exports"],
    reads=lambda at: each(f"{at.member}/is_cityscapes", city_classes(at.settings)),
    group="exports",
    kinds={"cityscapes", "coco"},
)
def export(out: PartitionWriter, _: str, member: str, settings: Settings, store: DeclaredStore) -> Made:
    """The windows as other tools read them: a Cityscapes tree (instanceIds, labelIds, polygons) and COCO RLE JSON,
    below `artifacts.exports`."""
    assert settings.artifacts.exports is not None, "else there is no such artifact"
    target = settings.artifacts.exports / member
    asset, columns = f"{member}/is_cityscapes", ["frame_id", "image_png", "ids_png"]
    rows = (row for partition in store.declared(asset) for row in store.iterate(asset, partition, columns))
    write_export(rows, target)
    files = exported_files(target)
    while part := list(islice(files, FILES_PER_PART)):
        out.add_table(pd.DataFrame(part, columns=["file", "sha256"]))
    out.promise(target)
    return Made({"folder": target.resolve()})
