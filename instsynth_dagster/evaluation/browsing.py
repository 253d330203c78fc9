"""Everything that can be looked at, as one list of pictures: frames, windows, and what segmenters predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.data.images import decode_ids
from instsynth_dagster.data.originals import OriginalImage, OriginalObject
from instsynth_dagster.data.pixel_runs import IdRuns, as_text
from instsynth_dagster.errors import ArtifactError
from instsynth_dagster.graph import window_arms
from instsynth_dagster.graph.refs import all_cities, all_runs, city_classes
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.export import IMAGE_ATTRIBUTES, suffix_of


@dataclass(frozen=True)
class Picture:
    """A frame of the data set or a synthetic window, with its objects.

    `attributes` holds `synthetic` and, for a window, the values of `IMAGE_ATTRIBUTES`. `repainted` is the index of the
    repainted instance in `objects`. `predictions` holds a prediction table for each training, by `<run>|<segmenter>`.
    """

    path: Path
    tag: str
    image: OriginalImage
    attributes: dict[str, Any]
    repainted: int | None = None
    predictions: dict[str, pd.DataFrame] = field(default_factory=dict)


def pictures(settings: Settings, store: Store, dataset: DataSet, folder: Path) -> Iterator[Picture]:
    """All indexed frames, then all windows in the store; the images of windows are written to `folder`.

    Raises:
        ArtifactError: the store holds no frames yet.
    """
    cities = [city for city in all_cities(settings) if store.manifest("frames", city)]
    if not cities:
        raise ArtifactError("no frames are in the store yet; run make prepare, or make export")
    predicted = {run: store.read("segmentation_scores", run) for run in _made(store, settings)}
    by_frame = {run: dict(iter(table.groupby("frame_id"))) for run, table in predicted.items()}
    frames = {row.image: row for row in store.read_many("frames", cities).itertuples()}
    for image in dataset.originals(cities):
        frame = frames[image.file]
        found = {run: tables[frame.frame_id] for run, tables in by_frame.items() if frame.frame_id in tables}
        yield Picture(dataset.root / image.file, frame.split, image, {"synthetic": False}, predictions=found)
    for arm in window_arms(settings):
        for partition in city_classes(settings):
            if store.manifest(f"{arm}/is_cityscapes", partition):
                for row in store.iterate(f"{arm}/is_cityscapes", partition):
                    yield _window(row, arm, folder, dataset)


def _made(store: Store, settings: Settings) -> Sequence[str]:
    return [run for run in all_runs(settings) if store.manifest("segmentation_scores", run)]


def _window(row: dict[str, Any], arm: str, folder: Path, dataset: DataSet) -> Picture:
    content = bytes(row["image_png"])
    path = folder / arm / f"{row['frame_id']}.{suffix_of(content)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
    ids = decode_ids(row["ids_png"])
    target = int(row["instance_id"].rpartition(":")[2])
    objects, repainted = _objects(ids, target, dataset)
    attributes = {"synthetic": True, **{name: row[key] for key, name in IMAGE_ATTRIBUTES.items() if row.get(key)}}
    image = OriginalImage(path.name, (ids.shape[1], ids.shape[0]), None, objects)
    return Picture(path, arm, image, attributes, repainted)


def _objects(ids: np.ndarray, target: int, dataset: DataSet) -> tuple[tuple[OriginalObject, ...], int | None]:
    runs, found, repainted = IdRuns.of(ids), list[OriginalObject](), None
    for value in runs.values.tolist():
        label = dataset.labels.label_of(value)
        if label.has_instances:
            repainted = len(found) if value == target else repainted
            found.append(OriginalObject(label.name, as_text(runs.rle(value)), value < dataset.labels.factor, None))
    return tuple(found), repainted
