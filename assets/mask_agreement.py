"""Quality gates: whether another segmenter finds a repainted instance inside its mask."""

from __future__ import annotations

import pandas as pd

from assets.shared.declaration import At, artifact
from assets.shared.made import Made
from assets.shared.pictures import sheet_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.evaluation.report.gate_gallery import agreement_sheet
from instsynth_dagster.graph import instances_asset, painting_arms
from instsynth_dagster.graph.refs import city_class_dimensions
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.settings import MaskJudgeSettings, Settings
from instsynth_dagster.synthesis.gates import MASK_IOU
from resources.dataset import Dataset
from resources.device import Device

FOUND = 0.5
"""Least IoU of a mask that the summary counts as found."""


def _masks(settings: Settings) -> MaskJudgeSettings:
    assert settings.judge is not None
    assert settings.judge.masks is not None
    return settings.judge.masks


def _reads(at: At) -> list[PartitionRef]:
    judge = [] if _masks(at.settings).checkpoint else [("mask_judges", at["city"])]
    crops = [(instances_asset(at.member), at.partition), (f"{at.member}/inpainted_crops", at.partition)]
    return [("frames", at["city"]), *judge, *crops]


@artifact(
    "{member}/mask_agreement",
    code_version="1",
    when=lambda settings: settings.judge and settings.judge.masks,
    members=painting_arms,
    dimensions=city_class_dimensions,
    settings=lambda at: [
        "judge.masks",
        f"segmenters.{_masks(at.settings).segmenter}:inference",
        *("integration.feather", "integration.color_match", "dataset.root"),
    ],
    reads=_reads,
    group="phase_2",
    kinds={"pytorch"},
)
def mask_agreement(
    out: PartitionWriter,
    partition: str,
    member: str,
    settings: Settings,
    store: DeclaredStore,
    dataset: Dataset,
    device: Device,
) -> Made:
    """IoU of each repainted instance's mask with the best mask of its class that a segmenter predicts in the frame with
    the repainting pasted in. The segmenter is trained on real frames of the other train cities. This is a score:
    verdicts follow from `gates.min_mask_iou` in `is_cityscapes`.
    """
    from instsynth_dagster.models.sources import trained_folder
    from instsynth_dagster.segmenters.contract import get_segmenter
    from instsynth_dagster.synthesis.mask_agreement import mask_agreement as agreement

    masks, city = _masks(settings), partition.split("|")[0]
    selected = store.read_lazily(instances_asset(member), partition)
    crops = store.read_lazily(f"{member}/inpainted_crops", partition)
    if crops.empty:
        return Made()
    folder = trained_folder(masks.checkpoint) if masks.checkpoint else store.folder("mask_judges", city, "checkpoint")
    recipe = settings.segmenters[masks.segmenter]
    predictor = get_segmenter(recipe.kind).load(folder, recipe, labels=dataset.labels, device=device.name)
    rows = agreement(selected, crops, dataset.image_of, predictor, settings.integration, masks.min_score)
    table = pd.DataFrame(list(rows))
    out.add_table(table)
    out.summary.update(
        {MASK_IOU: round(float(table[MASK_IOU].mean()), 4), "found": round(float((table[MASK_IOU] >= FOUND).mean()), 4)}
    )
    return Made({"preview": sheet_preview(agreement_sheet(selected, crops, table))})
