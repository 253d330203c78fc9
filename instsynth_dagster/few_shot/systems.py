"""Segmenters under the FSIS protocol: base training once, then fine-tuning on K shots for each seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.metrics.coco_ap import coco_average_precision
from instsynth_dagster.evaluation.metrics.instance_ap import average_precision, match_frame
from instsynth_dagster.few_shot.instances import Samples, split_scores
from instsynth_dagster.segmenters.contract import Predictor, get_segmenter
from instsynth_dagster.settings import FewShotSystem, SegmenterSettings
from instsynth_dagster.settings.base import refusal

MIN_SIDE = 8
"""Side in pixels below which an instance does not count in the mask IoU given true boxes."""

Frames = Sequence[tuple[np.ndarray, np.ndarray]]
"""Images uint8 (H, W, 3) and id maps int32 (H, W)."""


def tuning_recipe(
    system: FewShotSystem, base: Path, shots: int, detector: tuple[SegmenterSettings, Path] | None
) -> SegmenterSettings:
    """Settings of fine-tuning from a base checkpoint.

    Args:
        detector: for MaskDiff, the system that provides its boxes, and that system's fine-tuned checkpoint.
    """
    applied = {name: system.base.architecture[name] for name in system.base.applied_architecture}
    architecture = applied | system.tune.get("architecture", {})
    if system.base.kind == "maskdiff":
        architecture["shots"] = shots
        if detector:
            recipe, folder = detector
            architecture |= {"detector": recipe.model_dump(exclude_unset=True), "trained_detector": str(folder)}
    changed = system.base.model_dump(exclude_unset=True) | system.tune
    try:
        return SegmenterSettings.model_validate(changed | {"model": str(base), "architecture": architecture})
    except ValidationError as error:
        raise refusal(error, "few_shot_instances.systems.tune") from None


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned system, ready to segment."""

    name: str
    recipe: SegmenterSettings
    folder: Path
    predictor: Predictor


def tuned_systems(
    systems: Mapping[str, FewShotSystem],
    bases: Mapping[str, Path],
    data: Samples,
    classes: Sequence[str],
    *,
    shots: int,
    seed: int,
    scratch: Path,
    device: str,
    started: Callable[[str], None] = lambda name: None,
) -> Iterator[Tuned]:
    """Every system fine-tuned on the same windows, those that provide boxes before those that use them."""
    done: dict[str, Tuned] = {}
    for name in sorted(systems, key=lambda name: systems[name].detector is not None):
        started(name)
        system = systems[name]
        lender = done[system.detector] if system.detector else None
        recipe = tuning_recipe(system, bases[name], shots, (lender.recipe, lender.folder) if lender else None)
        segmenter = get_segmenter(recipe.kind)
        out = scratch / name / "checkpoint"
        segmenter.fit(
            data, recipe, classes=classes, seed=seed, out=out, scratch=scratch / name / "scratch", device=device
        )
        done[name] = Tuned(name, recipe, out, segmenter.load(out, recipe, labels=data.labels, device=device))
        yield done[name]


def scores(
    predictor: Predictor, frames: Frames, classes: Sequence[str], novel: Sequence[str], labels: LabelTable
) -> dict[str, Any]:
    """AP and AP50 of base, novel and all classes over frames, by both protocols (Cityscapes, COCO); for MaskDiff also
    `novel_mask_iou`, its mean mask IoU on novel instances given their true boxes and classes.
    """
    from instsynth_dagster.segmenters.maskdiff.segmenter import MaskDiffPredictor, given_box_iou

    predicted = [(ids, predictor.predict([image])[0]) for image, ids in frames]
    official = average_precision([match_frame(*frame, labels) for frame in predicted], classes)
    coco = coco_average_precision(predicted, classes, labels)
    found: dict[str, Any] = {
        **split_scores(official.per_class, novel),
        **split_scores(coco.per_class, novel, "coco_"),
    }
    if isinstance(predictor, MaskDiffPredictor):
        given = pd.concat([given_box_iou(predictor, image, ids, MIN_SIDE, novel, labels) for image, ids in frames])
        found["novel_mask_iou"] = float(given["iou"].mean())
    return found
