"""The windows in formats of other tools."""

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
from instsynth_dagster.synthesis.export import Originals, exported_files, write_export
from resources.dataset import Dataset

FILES_PER_PART = 10_000
"""Rows in a part of an export's file list, which is never completely in memory."""


@artifact(
    "{member}/export",
    code_version="5",
    members=lambda settings: window_arms(settings) if settings.artifacts.exports else [],
    settings=["artifacts.exports", "exports", "dataset.train_cities"],
    values={"tree": lambda at: at.settings.dataset.format == "cityscapes"},
    reads=lambda at: [
        *each(f"{at.member}/is_cityscapes", city_classes(at.settings)),
        *each("frames", at.settings.dataset.train_cities if at.settings.exports.with_original else ()),
    ],
    group="exports",
    kinds={"cityscapes", "coco"},
)
def export(
    out: PartitionWriter, _: str, member: str, settings: Settings, tree: bool, store: DeclaredStore, dataset: Dataset
) -> Made:
    """The windows in formats of other tools, below `artifacts.exports`: COCO RLE JSON with the data set's own
    categories, and its images, which are a Cityscapes tree (instanceIds, labelIds, polygons) where the data set is one;
    further formats as `exports` lists.
    """
    assert settings.artifacts.exports is not None, "else there is no such artifact"
    target = settings.artifacts.exports / member
    asset = f"{member}/is_cityscapes"
    rows = (row for partition in store.declared(asset) for row in store.iterate(asset, partition))
    cities = settings.dataset.train_cities if settings.exports.with_original else ()
    write_export(
        rows,
        target,
        dataset.labels,
        tree=tree,
        categories=dataset.categories(),
        formats=settings.exports.formats,
        originals=Originals(dataset.root, dataset.originals(cities)) if cities else None,
    )
    files = exported_files(target)
    while part := list(islice(files, FILES_PER_PART)):
        out.add_table(pd.DataFrame(part, columns=["file", "sha256"]))
    out.declare_directory(target)
    return Made({"folder": target.resolve()})
