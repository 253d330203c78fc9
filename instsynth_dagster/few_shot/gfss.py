"""Generalised few-shot segmentation on the data set, with and without synthetic shots.

Background 0 is everything that is no instance; classes are numbered from 1 in the order of the settings; groups and
void are ignored. Base classes are learned from all train frames with novel pixels left out. (CAPL drops every image
that shows a novel class; street scenes would hardly leave any.) Queries are all val frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.metrics.few_shot_iou import IGNORED, confusion, gfss_scores
from instsynth_dagster.few_shot.folds import Candidate
from instsynth_dagster.few_shot.shots import draw_shots

if TYPE_CHECKING:
    from instsynth_dagster.few_shot.imprinting import CosineHead, Labelled
    from instsynth_dagster.refinement.features import Extractor

Repainted = Callable[[Sequence[str], str], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Maps frame ids of shots and a class to images uint8 (H, W, 3) synthesised from their instances, with masks bool."""


@dataclass(frozen=True)
class FoldFrames:
    """Train frames by id, with their features, and val frames."""

    images: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    train: Mapping[str, np.ndarray]
    queries: Sequence[Labelled]


def class_map(ids: np.ndarray, classes: Sequence[str], labels: LabelTable) -> np.ndarray:
    """uint8 (H, W) of an id map: 0 background, 1.. instances of `classes`, 255 groups, void and everything else."""
    numbers = np.full(ids.shape, IGNORED, dtype=np.uint8)
    numbers[np.isin(ids, labels.stuff_ids)] = 0
    for number, name in enumerate(classes, 1):
        numbers[labels.of_class(ids, name)] = number
    return numbers


def shot_candidates(selected: pd.DataFrame, instances: pd.DataFrame, novel: Sequence[str]) -> list[Candidate]:
    """Train frames that may be drawn as shots of a class, with the areas of the fold's novel classes in them.

    Args:
        selected: rows of `selected_instances` of the class; frames without any are no candidates.
        instances: all annotated instances and groups of the train frames: columns frame_id, class_name, area.
    """
    shown = instances[instances["class_name"].isin(list(novel))]
    areas = shown.groupby(["frame_id", "class_name"])["area"].sum()
    return [
        Candidate(frame, {name: int(areas.get((frame, name), 0)) for name in novel})
        for frame in sorted(selected["frame_id"].unique())
    ]


def fold_rows(
    known: FoldFrames,
    candidates: Mapping[str, Sequence[Candidate]],
    novel: Sequence[str],
    classes: Sequence[str],
    *,
    shots: Sequence[int],
    seeds: Sequence[int],
    extract: Extractor,
    repainted: Repainted | None,
) -> pd.DataFrame:
    """Scores of one fold: columns seed, shots, synthetic (number of images used), with_synthesis, base, novel, mean,
    harmonic, background (the convention).

    Args:
        candidates: for each novel class the train frames that may be drawn.
        repainted: synthesises images from shots; it is given those shots and nothing else.
    """
    from instsynth_dagster.few_shot.imprinting import train_base

    numbers = {name: classes.index(name) + 1 for name in novel}
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        base = train_base(
            [(known.train[frame], known.labels[frame]) for frame in known.train],
            len(classes) + 1,
            list(numbers.values()),
            seed,
        )
        for count in shots:
            chosen = {
                name: draw_shots(candidates[name], name, count, seed, novel_classes=novel, min_area=1) for name in novel
            }
            real = {
                numbers[name]: [(known.train[f], known.labels[f] == numbers[name]) for f in frames]
                for name, frames in chosen.items()
            }
            about = {"seed": seed, "shots": count}
            rows += _scored(base.imprint(real), known, numbers, about | {"synthetic": 0, "with_synthesis": False})
            if repainted is None:
                continue
            added = {
                numbers[name]: [(extract(image), mask) for image, mask in repainted(sorted(set(frames)), name)]
                for name, frames in chosen.items()
            }
            added_about = {"synthetic": sum(map(len, added.values())), "with_synthesis": True}
            rows += _scored(base.imprint(real, added), known, numbers, about | added_about)
    return pd.DataFrame(rows)


def _scored(
    head: CosineHead, known: FoldFrames, numbers: Mapping[str, int], about: dict[str, Any]
) -> list[dict[str, Any]]:
    classes = len(head.weights)
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for features, labels in known.queries:
        matrix += confusion(labels, head.predict(features, labels.shape), classes)
    return [
        about | asdict(gfss_scores(matrix, list(numbers.values()), convention))
        for convention in ("excluded", "in_base")
    ]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over folds of the mean over seeds, and the deviation over seeds of the mean over folds.

    Args:
        rows: rows of `fold_rows` with a column fold.

    Returns:
        Columns shots, with_synthesis, background, then base, novel, mean, harmonic and with _sd their deviation; seeds,
        folds.
    """
    keys = ["shots", "with_synthesis", "background"]
    metrics = ["base", "novel", "mean", "harmonic"]
    by_seed = rows.groupby([*keys, "seed"])[metrics].mean()
    table = by_seed.groupby(keys).mean().join(by_seed.groupby(keys).std(ddof=1).add_suffix("_sd"))
    counts = rows.groupby(keys)[["seed", "fold"]].nunique().rename(columns={"seed": "seeds", "fold": "folds"})
    return table.join(counts).reset_index()
