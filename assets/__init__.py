"""One file per artifact; each names its inputs, calls the method, and reports."""

from __future__ import annotations

import dagster as dg

from assets import (
    crop_quality,
    data,
    evaluation_tables,
    fsis,
    gfss,
    image_quality,
    inpainted_crops,
    is_cityscapes,
    prompt_bank,
    refined_pseudo_labels,
    segmentation_scores,
    segmenter_costs,
    selected_instances,
    semantics,
    trained_segmenters,
    training_sets,
)
from assets.shared.partitions import Graph
from instsynth_dagster.settings import Settings

_ROOMS = (
    data,
    selected_instances,
    prompt_bank,
    inpainted_crops,
    crop_quality,
    is_cityscapes,
    refined_pseudo_labels,
    image_quality,
    gfss,
    fsis,
    semantics,
    training_sets,
    trained_segmenters,
    segmentation_scores,
    segmenter_costs,
    evaluation_tables,
)


def build_assets(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    """The Dagster assets of a params file, one for each asset of `graph`."""
    return [asset for room in _ROOMS for asset in room.build(settings, graph)]
