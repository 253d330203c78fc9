"""Few-shot instance segmentation (FSIS): base training without the novel classes, then K instances of every class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from instsynth_dagster.data.instances import instance_areas
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.errors import DatasetError
from instsynth_dagster.few_shot.folds import Candidate
from instsynth_dagster.few_shot.shots import draw_shots
from instsynth_dagster.few_shot.synthesis import Repainted
from instsynth_dagster.few_shot.unannotated import erase_instances
from instsynth_dagster.seeds import content_seed
from instsynth_dagster.settings import IntegrationSettings
from instsynth_dagster.synthesis.windows import cut_ids, cut_image, paint_window, sample_window

FrameOf = Callable[[str], tuple[np.ndarray, np.ndarray]]
"""Maps a frame id to its image uint8 (H, W, 3) and ids int32 (H, W)."""


def draw_instances(selected: pd.DataFrame, name: str, count: int, seed: int) -> pd.DataFrame:
    """K instances of a class, as rows of `selected` (column instance_id).

    Instances are drawn, not images, so that crowded frames are not skipped; the list of fewer shots is a prefix of that
    of more.

    Raises:
        DatasetError: there are fewer than K.
    """
    if len(selected) < count:
        raise DatasetError(f"{name}: {count} shots requested, but only {len(selected)} instances are selected")
    candidates = [Candidate(instance_id, {name: 1}) for instance_id in selected["instance_id"]]
    chosen = draw_shots(candidates, name, count, seed, min_area=1)
    return selected.set_index("instance_id", drop=False).loc[chosen].reset_index(drop=True)


@dataclass(frozen=True)
class Sample:
    """A training window: image uint8 (h, w, 3), ids int32 (h, w), and the instances from which it was made."""

    image: np.ndarray
    ids: np.ndarray
    synthetic: bool
    sources: tuple[str, ...]


class Samples:
    """`SegmentationDataset` of windows in memory; K shots of each class are few."""

    def __init__(self, samples: Iterable[Sample], classes: Sequence[str], labels: LabelTable) -> None:
        self.labels = labels
        self.samples = list(samples)
        self.is_synthetic = np.array([sample.synthetic for sample in self.samples])
        self.classes_in = np.array(
            [[bool(labels.of_class(sample.ids, name).any()) for name in classes] for sample in self.samples]
        )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.samples[index].image, self.samples[index].ids


def shot_samples(
    shots: Mapping[str, pd.DataFrame],
    novel: Sequence[str],
    frame_of: FrameOf,
    integration: IntegrationSettings,
    seed: int,
    labels: LabelTable,
) -> list[Sample]:
    """A window around each shot.

    Of novel classes only the shots themselves are annotated; other objects of them in a window are erased. Base classes
    are unchanged.

    Args:
        shots: rows of `draw_instances` by class.
    """
    shown = {row.instance_id for name in novel if name in shots for row in shots[name].itertuples()}
    return [
        _window(row, *frame_of(row.frame_id), novel, shown, integration, seed, labels)
        for rows in shots.values()
        for row in rows.itertuples()
    ]


def synthetic_samples(
    shots: Mapping[str, pd.DataFrame],
    novel: Sequence[str],
    repainted: Callable[[str, pd.DataFrame], Iterable[Repainted]],
    frame_of: FrameOf,
    integration: IntegrationSettings,
    seed: int,
    labels: LabelTable,
) -> list[Sample]:
    """Windows around the repainted shots of novel classes.

    Args:
        repainted: maps a class and its shots to composites of them.

    Raises:
        DatasetError: a composite is of an instance that is no shot: the generator had access to more than the shots.
    """
    samples = []
    for name in novel:
        rows = shots[name].set_index("instance_id", drop=False)
        shown = set(rows.index)
        for number, made in enumerate(repainted(name, shots[name])):
            if made.instance_id not in shown:
                raise DatasetError(
                    f"{made.instance_id}: synthesised, but it is none of the {len(shown)} shots of {name}"
                )
            row = rows.loc[made.instance_id]
            image, ids = frame_of(row["frame_id"])
            window_seed = content_seed(seed, number)
            samples.append(_window(row, image, ids, novel, shown, integration, window_seed, labels, made.image))
    return samples


def _window(
    row: Any,
    image: np.ndarray,
    ids: np.ndarray,
    novel: Sequence[str],
    shown: set[str],
    integration: IntegrationSettings,
    seed: int,
    labels: LabelTable,
    composite: np.ndarray | None = None,
) -> Sample:
    """The window around an instance, cut from `composite`, the frame with the instance repainted, or else from
    `image`.
    """
    kept = [int(name.rpartition(":")[2]) for name in shown if name.rpartition(":")[0] == row.frame_id]
    image, ids = erase_instances(image, ids, novel, labels, kept)
    height, width = ids.shape
    value = int(row.instance_id.rpartition(":")[2])
    box = (int(row.x1), int(row.y1), int(row.x2), int(row.y2))
    window = sample_window(box, width, height, integration, content_seed(row.instance_id, seed))
    image = cut_image(image, window, integration)
    ids = cut_ids(ids, window, integration, instance_areas(ids), value, labels).astype(np.int32)
    if composite is not None:
        image = paint_window(image, composite, window, ids == value)
    return Sample(image, ids, composite is not None, (row.instance_id,))


def split_scores(per_class: pd.DataFrame, novel: Sequence[str], protocol: str = "") -> dict[str, float]:
    """AP and AP50 over base, novel and all classes; `all` is the mean of both weighted by their numbers of classes.

    Args:
        per_class: of `InstanceScores` or `CocoScores`.
        protocol: prefix of "ap" in the names: "" for Cityscapes, "coco_" for COCO.
    """
    is_novel = per_class["class_name"].isin(novel)
    scores = {}
    for group, rows in (("base", per_class[~is_novel]), ("novel", per_class[is_novel]), ("all", per_class)):
        for metric in ("ap", "ap50"):
            scores[f"{group}_{protocol}{metric}"] = rows[metric].mean()
    return scores


METRICS = (
    *(f"{group}_{ap}" for group in ("base", "novel", "all") for ap in ("ap", "ap50", "coco_ap", "coco_ap50")),
    "novel_mask_iou",
)
GAIN_METRICS = ("novel_ap", "novel_coco_ap", "novel_mask_iou")
"""Metrics whose change by synthesis is reported."""


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and deviation over seeds of each system, K and arm, and the mean change by synthesis.

    Args:
        rows: columns system, shots, seed, with_synthesis and METRICS.

    Returns:
        Columns system, shots, with_synthesis, seeds, each metric and its _sd, and for each of GAIN_METRICS its _gain
        with _gain_low and _gain_high: a 95 % interval of the paired difference over seeds (Student's t; nan for one
        seed).
    """
    keys = ["system", "shots", "with_synthesis"]
    metrics = [name for name in METRICS if name in rows]
    grouped = rows.groupby(keys)[metrics]
    table = grouped.mean().join(grouped.std(ddof=1).add_suffix("_sd"))
    table = table.join(rows.groupby(keys)["seed"].nunique().rename("seeds")).reset_index()
    return table.merge(_gains(rows), on=keys, how="left")


def _gains(rows: pd.DataFrame) -> pd.DataFrame:
    from scipy.stats import t

    gained = [metric for metric in GAIN_METRICS if metric in rows]
    pairs = rows.pivot_table(index=["system", "shots", "seed"], columns="with_synthesis", values=gained, dropna=False)
    if set(rows["with_synthesis"]) != {True, False}:
        return pd.DataFrame(columns=["system", "shots", "with_synthesis"])
    found = []
    for (system, shots), group in pairs.groupby(["system", "shots"]):
        about: dict[str, Any] = {"system": system, "shots": shots, "with_synthesis": True}
        for metric in gained:
            values = (group[(metric, True)] - group[(metric, False)]).dropna().to_numpy()
            gain = values.mean() if len(values) else np.nan
            reach = np.nan
            if len(values) > 1:
                reach = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
            low, high = gain - reach, gain + reach
            about |= {f"{metric}_gain": gain, f"{metric}_gain_low": low, f"{metric}_gain_high": high}
        found.append(about)
    return pd.DataFrame(found)
