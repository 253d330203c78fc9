"""Syn4Seg's refinement between synthesis and training."""

from __future__ import annotations

from itertools import islice
from typing import Any

from assets.shared.declaration import all_but, artifact
from assets.shared.made import Check, Made
from assets.shared.pictures import sample, sheet_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.data.images import decode_ids, decode_png
from instsynth_dagster.graph import window_generators
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.refinement.gallery import Change, change_sheet
from instsynth_dagster.refinement.refine import LOST
from instsynth_dagster.refinement.support import from_table
from instsynth_dagster.refinement.windows import refine_window
from instsynth_dagster.settings import RefinementSettings, Settings
from resources.dataset import Dataset
from resources.refining import Refining

WARNINGS = {"class_survival": "At least half of the instances of a class keep most of their area."}
MIN_SURVIVAL = 0.5
SHOWN = 6
COUNTED = ("freed", "returned", "given_away", "unclear", "border_removed")
"""Columns of pixel counts that the summary adds up."""


@artifact(
    "{member}/refined_pseudo_labels",
    code_version="1",
    when=lambda settings: settings.refinement,
    members=window_generators,
    dimensions=city_class_dimensions,
    settings=all_but({"support_frames"}, RefinementSettings, "refinement"),
    reads=lambda at: [(f"{at.member}/is_cityscapes", at.partition), ("prototypes", UNPARTITIONED)],
    group="refinement",
    kinds={"opencv", "pytorch"},
    warnings=WARNINGS,
)
def refined_pseudo_labels(
    out: PartitionWriter,
    partition: str,
    member: str,
    settings: Settings,
    store: DeclaredStore,
    dataset: Dataset,
    refining: Refining,
) -> Made:
    """Id maps of the synthetic windows with the repainted instance refined: regions unlike their class freed (APF),
    free pixels relabelled or left out (APR), the border corrected (SABR). One row for each window, in its order.
    """
    recipe = settings.refinement
    assert recipe is not None
    extractor, refiner = refining.extractor(recipe.features), refining.refiner(recipe.boundary)
    known = from_table(store.read("prototypes", UNPARTITIONED))
    for number, window in enumerate(store.iterate(f"{member}/is_cityscapes", partition)):
        if number < out.resumed_rows:
            continue
        out.add(refine_window(window, extractor, known, refiner, recipe, dataset.labels))
    touched = [row for row in out.stored_rows(["verdict", *COUNTED]) if row["verdict"] != "untouched"]
    lost = sum(row["verdict"] == LOST for row in touched)
    out.summary.update(windows=out.rows, refined=len(touched), lost=lost)
    for name in COUNTED:
        out.summary[f"pixels_{name}"] = sum(row[name] for row in touched)
    survival = 1 - lost / max(len(touched), 1)
    text = f"{partition}: {survival:.0%} of {len(touched)} instances kept at least half of their area"
    both = zip(store.iterate(f"{member}/is_cityscapes", partition), out.stored_rows(), strict=True)
    changes = list(islice((_change(*pair) for pair in both if pair[1]["verdict"] != "untouched"), SHOWN))
    caption = sample(len(changes), len(touched), "refined instances")
    pictures = {"preview": sheet_preview(change_sheet(changes), caption)} if changes else {}
    return Made(pictures, (Check("class_survival", survival >= MIN_SURVIVAL, text, blocking=False),))


def _change(window: dict[str, Any], row: dict[str, Any]) -> Change:
    value = int(window["instance_id"].rpartition(":")[2])
    before, after = (decode_ids(ids) == value for ids in (window["ids_png"], row["ids_png"]))
    caption = f"{row['pixels_before']} to {row['pixels_after']} px, border {row['refiner']}"
    return Change(decode_png(window["image_png"]), before, after, caption)
