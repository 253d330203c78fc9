"""Predictions of the trained segmenters on the val cities, and their scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from assets.shared.declaration import artifact
from assets.shared.made import Check, Made
from assets.shared.pictures import predictions_preview
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import PartitionWriter
from instsynth_dagster.evaluation.metrics.coco_ap import Annotations, coco_summary
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame
from instsynth_dagster.evaluation.metrics.map_counts import COUNTS, MAPS, PICTURES, map_counts, map_pictures, map_scores
from instsynth_dagster.evaluation.tables.tables import COCO_AP, leading_metric
from instsynth_dagster.graph import run_dimensions
from instsynth_dagster.graph.refs import each, scored_cities
from instsynth_dagster.segmenters.contract import get_segmenter
from instsynth_dagster.settings import Settings
from resources.dataset import Dataset
from resources.device import Device
from resources.progress import progress_bar

WARNINGS = {"ap_sanity": "AP50 is neither 0 nor implausibly high, and AP is not above it."}
TOO_GOOD = 0.98


@artifact(
    "segmentation_scores",
    code_version="1",
    when=lambda settings: settings.segmenters and settings.dataset.val_cities,
    dimensions=run_dimensions,
    settings=lambda at: [
        f"segmenters.{at['segmenter']}:inference",
        "classes",
        "dataset.val_cities",
        "dataset.root",
        "evaluation",
    ],
    reads=lambda at: [("trained_segmenters", at.partition), *each("frames", scored_cities(at.settings))],
    group="evaluation",
    kinds={"pytorch", "cityscapes"},
    warnings=WARNINGS,
)
def segmentation_scores(
    out: PartitionWriter, partition: str, settings: Settings, store: DeclaredStore, dataset: Dataset, device: Device
) -> Made:
    """Predicted instances on every val and test frame (RLE), and on the val frames AP and AP50 by the leading protocol
    (the official one of Cityscapes, or COCO's); panoptic and semantic maps with PQ and mIoU for segmenters that give
    them.
    """
    _, name = partition.split("|")
    recipe = settings.segmenters[name]
    folder = store.folder("trained_segmenters", partition, "checkpoint")
    predictor = get_segmenter(recipe.kind).load(folder, recipe, labels=dataset.labels, device=device.name)
    frames = store.read_many("frames", store.declared("frames"))
    matches, tables, counts, pictures = [], [], [], []
    coco = Annotations.of(settings.classes)
    shown: list[tuple[np.ndarray, np.ndarray, pd.DataFrame]] = []
    with progress_bar(f"scoring {partition}", len(frames)) as progress:
        for done, row in enumerate(frames.itertuples(), 1):
            image, ids = dataset.image(row), dataset.ids(row)
            predicted = predictor.predict([image])[0]
            predicted.insert(0, "frame_id", row.frame_id)
            if row.city in settings.dataset.val_cities:
                matches.append(match_frame(ids, predicted, dataset.labels))
                coco.add(ids, predicted, settings.classes, dataset.labels)
            tables.append(predicted)
            maps = predictor.maps(image)
            if maps:
                counts.append(map_counts(row.frame_id, ids, maps, dataset.labels))
                pictures.append(map_pictures(row.frame_id, maps))
            if len(shown) < 4:
                shown.append((image, ids, predicted))
            progress(done, len(frames))
    out.add_table(pd.concat(tables, ignore_index=True))
    leads = leading_metric(dataset.labels, settings.evaluation.protocol) == COCO_AP
    scores = coco_summary(coco, settings.classes) if leads else average_precision(matches, settings.classes)
    out.summary.update(ap=scores.ap, ap50=scores.ap50, frames=len(matches))
    if counts:
        folder = out.folder(MAPS)
        every = pd.concat(counts, ignore_index=True)
        every.to_parquet(folder / COUNTS)
        pd.DataFrame(pictures).to_parquet(folder / PICTURES)
        val = frames.loc[frames["city"].isin(settings.dataset.val_cities), "frame_id"]
        out.summary.update(map_scores(every[every["frame_id"].isin(val)]))
    preview = {"preview": predictions_preview(shown, dataset.labels, len(frames))}
    return Made(preview, (ap_sanity(scores.ap, scores.ap50),))


def ap_sanity(ap: float, ap50: float) -> Check:
    """The check of AP and AP50: a segmenter that learned nothing scores 0, and one that was trained on the val frames
    about 1.
    """
    passed = 0 < ap50 < TOO_GOOD and ap <= ap50
    return Check("ap_sanity", passed, f"AP {100 * ap:.1f}, AP50 {100 * ap50:.1f}", blocking=False)
