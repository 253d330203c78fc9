"""Syn4Seg's refinement between synthesis and training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np

from assets.shared.partitions import Graph
from assets.shared.pictures import sheet_preview
from assets.shared.stored import Check, Made, stored_asset
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter, Store
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.refinement.gallery import Change, change_sheet
from instsynth_dagster.refinement.refine import LOST
from instsynth_dagster.refinement.support import dataset_prototypes, from_table, support_frames, to_table
from instsynth_dagster.refinement.windows import refine_window
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.refining import Refining

WARNINGS = {"class_survival": "At least half of the instances of a class keep most of their area."}
MIN_SURVIVAL = 0.5
SHOWN = 6


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if settings.refinement is None:
        return []
    return [_prototypes(settings, graph), *(_refined(name, graph) for name in settings.generators)]


def _prototypes(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["prototypes"], graph, group="refinement", kinds={"pytorch"})
    def prototypes(out: PartitionWriter, _: str, store: Store, dataset: Dataset, refining: Refining) -> Made:
        """A feature vector for each class and one for the background: area-weighted means over real frames of the
        train cities, from a frozen extractor (APF's global prototypes)."""
        count = refining.settings.support_frames

        def frames() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for city in settings.dataset.train_cities:
                rows = store.read("frames", city).set_index("frame_id", drop=False)
                for frame_id in support_frames(rows.index.tolist(), count):
                    yield dataset.image(rows.loc[frame_id]), dataset.ids(rows.loc[frame_id])

        found = dataset_prototypes(frames(), refining.extractor, settings.classes)
        out.add_table(to_table(found))
        likeness = {name: round(float(vector @ found.background), 3) for name, vector in found.classes.items()}
        out.summary["classes"] = len(found.classes)
        return Made({"cosine_with_background": likeness})

    return prototypes


def _refined(generator: str, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(
        graph[f"{generator}/refined_pseudo_labels"],
        graph,
        group="refinement",
        kinds={"opencv", "pytorch"},
        warnings=WARNINGS,
    )
    def refined_pseudo_labels(out: PartitionWriter, partition: str, store: Store, refining: Refining) -> Made:
        """Id maps of the synthetic windows with the repainted instance refined: regions unlike their class freed (APF),
        free pixels relabelled or left out (APR), the border redrawn (SABR). A row for each window, in its order."""
        known = from_table(store.read("prototypes", UNPARTITIONED))
        rows: list[dict[str, Any]] = []
        changes: list[Change] = []
        for number, window in enumerate(store.iterate(f"{generator}/is_cityscapes", partition)):
            if number < out.resumed_rows:
                continue
            row = refine_window(window, refining.extractor, known, refining.refiner, refining.settings)
            out.add(row)
            rows.append({name: value for name, value in row.items() if not name.endswith("_png")})
            if len(changes) < SHOWN and row["verdict"] != "untouched":
                changes.append(_change(window, row))
        touched = [row for row in rows if row["verdict"] != "untouched"]
        lost = sum(row["verdict"] == LOST for row in touched)
        out.summary.update(windows=len(rows), refined=len(touched), lost=lost)
        for name in ("freed", "returned", "given_away", "unclear", "border_removed"):
            out.summary[f"pixels_{name}"] = sum(row[name] for row in touched)
        survival = 1 - lost / max(len(touched), 1)
        text = f"{partition}: {survival:.0%} of {len(touched)} instances kept at least half of their area"
        pictures = {"preview": sheet_preview(change_sheet(changes))} if changes else {}
        return Made(pictures, (Check("class_survival", survival >= MIN_SURVIVAL, text, blocking=False),))

    return refined_pseudo_labels


def _change(window: dict[str, Any], row: dict[str, Any]) -> Change:
    value = int(window["instance_id"].rpartition(":")[2])
    before, after = (decode_png(ids) == value for ids in (window["ids_png"], row["ids_png"]))
    caption = f"{row['pixels_before']} to {row['pixels_after']} px, border {row['refiner']}"
    return Change(decode_png(window["image_png"]), before, after, caption)
