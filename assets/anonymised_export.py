"""The anonymised data set, in the format of its source."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pandas as pd

from assets.export import FILES_PER_PART
from assets.shared.declaration import all_but, artifact
from assets.shared.made import Check, Made, Markdown
from assets.shared.pictures import PREVIEWED_WINDOWS, windows_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.graph import ANONYMISED
from instsynth_dagster.graph.data import label_files_of
from instsynth_dagster.graph.refs import all_cities, each
from instsynth_dagster.settings import AnnotatedImages, AnonymiseSettings, CocoImages, Settings
from instsynth_dagster.synthesis.anonymised_export import export_anonymised
from instsynth_dagster.synthesis.export import exported_files
from resources.dataset import Dataset

SURVIVES = "nothing_survives"
CHECKS = {
    SURVIVES: "In every written picture, pixel by pixel: nothing that is hidden equals its source by more than chance, "
    "and nothing else has changed; label files are the source's."
}


def _annotations(settings: Settings) -> list[tuple[str | None, str]] | None:
    """COCO files by split, empty for another format of annotated images; None for a Cityscapes tree."""
    if not isinstance(settings.dataset, AnnotatedImages):
        return None
    files = settings.dataset.annotation_files if isinstance(settings.dataset, CocoImages) else {}
    return [(split, str(path)) for split, path in files.items()]


@artifact(
    "anonymised/export",
    code_version="1",
    when=lambda settings: settings.anonymise and settings.artifacts.exports,
    settings=["artifacts.exports", *all_but({"generator", "min_area"}, AnonymiseSettings, "anonymise"), "dataset.root"],
    values={"annotations": lambda at: _annotations(at.settings)},
    reads=lambda at: [
        *each("frames", all_cities(at.settings)),
        *each("anonymised/frames", all_cities(at.settings)),
    ],
    files=lambda at: label_files_of(at.settings),
    group="exports",
    kinds={"cityscapes", "coco"},
    checks=CHECKS,
)
def anonymised_export(
    out: PartitionWriter,
    _: str,
    settings: Settings,
    annotations: list[tuple[str | None, str]] | None,
    store: DeclaredStore,
    dataset: Dataset,
) -> Made:
    """The whole data set, train, val and test, below `artifacts.exports` with all objects hidden that `anonymise`
    names: images as PNG without metadata, labels unchanged, and a list of how each object was hidden. It replaces an
    older export only if the written files pass the comparison with the data set.
    """
    assert settings.artifacts.exports is not None, "else there is no such artifact"
    assert settings.anonymise is not None
    target, cities = settings.artifacts.exports / ANONYMISED, store.declared("frames")
    examined = export_anonymised(
        (row for city in cities for row in store.iterate("anonymised/frames", city)),
        {row.frame_id: row for city in cities for row in store.read("frames", city).itertuples()},
        dataset,
        settings.anonymise,
        target,
        None if annotations is None else {split: Path(path) for split, path in annotations},
    )
    found = (
        f"{examined.frames} pictures, {examined.hidden:,} hidden pixels, {examined.informative:,} informative; at most "
        f"{examined.largest_group} side by side equal the source"
    )
    if examined.problems:
        more = f" (and {len(examined.problems) - 1} more)" if examined.problems[1:] else ""
        return Made(checks=(Check(SURVIVES, False, f"{examined.problems[0]}{more}; nothing was exported"),))
    files = exported_files(target)
    while part := list(islice(files, FILES_PER_PART)):
        out.add_table(pd.DataFrame(part, columns=["file", "sha256"]))
    out.declare_directory(target)
    out.summary.update(frames=examined.frames, hidden_pixels=examined.hidden, largest_group=examined.largest_group)
    shown = _preview(store, cities[0], dataset)
    return Made({"folder": target.resolve(), "preview": shown}, (Check(SURVIVES, True, found),))


def _preview(store: DeclaredStore, city: str, dataset: Dataset) -> Markdown:
    rows = store.iterate("anonymised/frames", city, ["frame_id", "instance_id", "image_png", "ids_png"])
    total = store.require("anonymised/frames", city).rows
    return windows_preview(list(islice(rows, PREVIEWED_WINDOWS)), dataset.labels, total)
