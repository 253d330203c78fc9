"""Phase 3: composites, their focused windows, and the export other tools read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.pictures import PREVIEWED_WINDOWS, windows_preview
from assets.shared.stored import Check, Made, stored_asset
from instsynth_dagster.artifacts.store import PartitionWriter, Store
from instsynth_dagster.graph import COPY_PASTE, WITHOUT_GENERATOR, window_arms, window_replicas
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.copy_paste import copy_paste, target_frame
from instsynth_dagster.synthesis.export import exported_files, write_export
from instsynth_dagster.synthesis.gates import choose_crops
from instsynth_dagster.synthesis.synthetic_windows import masks_conserved, repainted_instances, synthetic_window
from resources.dataset import Dataset

CHECKS = {
    "outside_mask_identity": "Outside the repainted mask every pixel equals the source frame.",
    "masks_conserved": "Windows hold only ids of their source frame, and the target mask lies where it lay.",
}

FILES_PER_PART = 10_000
"""Of an export's list, which is not held as a whole."""


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    arms = window_arms(settings)
    return [_is_cityscapes(arm, settings, graph) for arm in arms] + [_export(arm, settings, graph) for arm in arms]


def _is_cityscapes(arm: str, settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph[f"{arm}/is_cityscapes"], graph, group="phase_3", kinds={"opencv"}, checks=CHECKS)
    def is_cityscapes(out: PartitionWriter, partition: str, store: Store, dataset: Dataset) -> Made:
        """Synthetic training frames: the repainted instance pasted back inside its mask with a feathered alpha, then a
        focused 2:1 window around it (InstSynth phase 3, Eq. 2-3). For `zoom_crop` the same windows of untouched frames;
        for `copy_paste` windows around real instances pasted into other frames of the city.
        """
        city, _ = partition.split("|")
        frames = store.read("frames", city).set_index("frame_id", drop=False)
        selected = store.read_lightly("selected_instances", partition)
        crops = None if arm in WITHOUT_GENERATOR else _chosen_crops(arm, settings, store, partition)
        rows = list(repainted_instances(selected, crops, window_replicas(settings)))
        place = _copy_pasted if arm == COPY_PASTE else _in_place
        shown: list[dict[str, Any]] = []
        left = enumerate(rows[out.resumed_rows :], out.resumed_rows)
        for index, untouched, image, ids, row in place(left, frames, dataset, settings):
            window = synthetic_window(image, ids, city, index, row, settings.integration, settings.seed, untouched)
            failed = [check for check in _checks(window) if not check.passed]
            if failed:
                return Made(checks=tuple(failed))
            out.add(window)
            if len(shown) < PREVIEWED_WINDOWS:
                shown.append(window)
        out.summary["windows"] = len(rows)
        if crops is not None:
            out.summary["rejected"] = sum(bool(crop["rejection"]) for crop in crops)
        passed = tuple(Check(name, True, text) for name, text in CHECKS.items())
        return Made({"preview": windows_preview(shown)} if shown else {}, passed)

    return is_cityscapes


Placed = Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]]
"""Number of a row, the frame as the data set has it, the one that its window is cut from, its id map, and the row."""


def _in_place(
    rows: Iterable[tuple[int, dict[str, Any]]], frames: pd.DataFrame, dataset: Dataset, settings: Settings
) -> Placed:
    """Every instance in its own frame, which is read once."""
    for frame_id, group in groupby(rows, lambda numbered: numbered[1]["frame_id"]):
        image, ids = dataset.image(frames.loc[frame_id]), dataset.ids(frames.loc[frame_id])
        for index, row in group:
            yield index, image, image, ids, row


def _copy_pasted(
    rows: Iterable[tuple[int, dict[str, Any]]], frames: pd.DataFrame, dataset: Dataset, settings: Settings
) -> Placed:
    """Every instance in another frame of its city."""
    for index, row in rows:
        frame_id = target_frame(row, frames.index.tolist(), settings.seed)
        frame = frames.loc[frame_id]
        image = dataset.image(frame)
        composite, ids, pasted = copy_paste(
            row, frame_id, image, dataset.ids(frame), settings.integration, settings.seed
        )
        yield index, image, composite, ids, pasted | {"source_sha256": frame.image_sha256}


def _chosen_crops(arm: str, settings: Settings, store: Store, partition: str) -> list[dict[str, Any]]:
    crops = store.read_lightly(f"{arm}/inpainted_crops", partition)
    if not settings.judge or crops.empty:
        return [crop | {"slot": crop["replica"], "rejection": ""} for crop in crops.to_dict("records")]
    quality = store.read(f"{arm}/crop_quality", partition)
    return choose_crops(crops, quality, settings.gates, settings.generators[arm].replicas)


def _checks(window: Mapping[str, Any]) -> list[Check]:
    difference = window["outside_difference"]
    return [
        Check(
            "outside_mask_identity",
            difference == 0,
            f"{window['instance_id']}: pixels outside the mask differ from the source by up to {difference}",
        ),
        Check(
            "masks_conserved",
            masks_conserved(window),
            f"{window['instance_id']}: the window's id map is not its source's",
        ),
    ]


def _export(arm: str, settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph[f"{arm}/export"], graph, group="exports", kinds={"cityscapes", "coco"})
    def export(out: PartitionWriter, _: str, store: Store) -> Made:
        """The windows as other tools read them: a Cityscapes tree (instanceIds, labelIds, polygons) and COCO RLE JSON,
        below `artifacts.exports`."""
        target = settings.artifacts.exports / arm
        asset = f"{arm}/is_cityscapes"
        partitions = graph[asset].partitions
        columns = ["frame_id", "image_png", "ids_png"]
        rows = (row for partition in partitions for row in store.iterate(asset, partition, columns))
        write_export(rows, target)
        files = exported_files(target)
        while part := list(islice(files, FILES_PER_PART)):
            out.add_table(pd.DataFrame(part, columns=["file", "sha256"]))
        out.promise(target)
        return Made({"folder": dg.MetadataValue.path(str(target.resolve()))})

    return export
