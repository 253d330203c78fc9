"""Tables I to III as InstSynth prints them, with the paper's own figures where the setting is the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from instsynth_dagster.evaluation.tables.tables import BASELINES, CITYSCAPES_AP
from instsynth_dagster.evaluation.tables.views import (
    MISSING,
    difference_text,
    heading,
    names,
    readable,
    score_texts,
    scores_shown,
)
from instsynth_dagster.segmenters.kinds import WithBackbone
from instsynth_dagster.settings import SegmenterSettings, Settings

TRAIN_CITIES = frozenset(
    {
        *("aachen", "bochum", "bremen", "cologne", "darmstadt", "dusseldorf", "erfurt", "hamburg", "hanover", "jena"),
        *("krefeld", "monchengladbach", "strasbourg", "stuttgart", "tubingen", "ulm", "weimar", "zurich"),
    }
)
VAL_CITIES = frozenset({"frankfurt", "lindau", "munster"})
CROP, STEPS, BATCH, LEARNING_RATE = (360, 720), 90_000, 4, 1e-4

TABLE_1 = {
    "person": (17_919, 69_932),
    "rider": (1_781, 6_950),
    "car": (26_963, 118_609),
    "truck": (484, 2_210),
    "bus": (379, 1_704),
    "train": (168, 789),
    "motorcycle": (737, 2_945),
    "bicycle": (3_675, 13_896),
    "total": (52_106, 217_035),
}
"""Instances before and after augmentation."""

TABLE_2 = {
    "real": {"ap": 27.65, "ap50": 49.21},
    "gligen": {"ap": 34.88, "ap50": 59.20},
    "diffinpainting": {"ap": 36.44, "ap50": 62.06},
    "blendeddiff": {"ap": 36.52, "ap50": 62.21},
}
"""FastInst R50-FPN-D3; `real` is the paper's rerun without CLIP at the small image size."""

TABLE_3 = {
    "convnext": {
        "real": {"pq": 48.84, "miou": 72.58, "ap": 21.75, "ap50": 40.94},
        "gligen": {"pq": 62.90, "miou": 80.55, "ap": 38.46, "ap50": 64.73},
        "diffinpainting": {"pq": 62.90, "miou": 80.96, "ap": 38.66, "ap50": 64.69},
        "blendeddiff": {"pq": 63.33, "miou": 80.88, "ap": 38.93, "ap50": 64.91},
    },
    "swin": {
        "real": {"pq": 51.52, "miou": 74.53, "ap": 25.68, "ap50": 45.90},
        "gligen": {"pq": 60.33, "miou": 79.18, "ap": 35.67, "ap50": 61.09},
        "diffinpainting": {"pq": 60.13, "miou": 77.88, "ap": 35.40, "ap50": 60.50},
        "blendeddiff": {"pq": 60.47, "miou": 79.10, "ap": 35.75, "ap50": 61.01},
    },
}
"""OneFormer with ConvNeXt-L (from Mapillary) and Swin-L."""

Published = Mapping[str, Mapping[str, float]]


def data_differences(settings: Settings) -> list[str]:
    """Differences of the data from the paper's; empty where there are none."""
    dataset, found = settings.dataset, []
    if (frozenset(dataset.train_cities), frozenset(dataset.val_cities)) != (TRAIN_CITIES, VAL_CITIES):
        found.append("the data (paper: Cityscapes, 18 train and 3 val cities)")
    if (settings.selection.policy, settings.selection.k) != ("paper", 3):
        found.append("the selection (paper: the 3 largest instances of a frame)")
    return found


def recipe_differences(recipe: SegmenterSettings) -> list[str]:
    """Differences of a training from the paper's."""
    found = []
    if recipe.crop != CROP:
        found.append(f"the crop, {recipe.crop[0]}x{recipe.crop[1]} (paper: {CROP[0]}x{CROP[1]})")
    if recipe.steps != STEPS:
        found.append(f"{recipe.steps:,} steps (paper: {STEPS:,})")
    if recipe.batch_size != BATCH:
        found.append(f"batches of {recipe.batch_size} (paper: {BATCH})")
    if recipe.learning_rate != LEARNING_RATE:
        found.append(f"the learning rate, {recipe.learning_rate:g} (paper: {LEARNING_RATE:g})")
    if recipe.kind == "fastinst" and (recipe.model or recipe.architecture or "resnet-50" not in str(_backbone(recipe))):
        found.append("the network (paper: FastInst-D3 on a ResNet-50)")
    if recipe.kind == "oneformer" and "convnext" in _network_name(recipe) and "mapillary" not in _network_name(recipe):
        found.append("the start (paper: a OneFormer trained on Mapillary)")
    return found


def published(recipe: SegmenterSettings) -> Published:
    """The paper's figures for a segmenter, by arm and metric in points; empty for one that the paper does not have."""
    if recipe.kind == "fastinst":
        return TABLE_2
    if recipe.kind == "oneformer":
        return next((rows for backbone, rows in TABLE_3.items() if backbone in _network_name(recipe)), {})
    return {}


def _backbone(recipe: SegmenterSettings) -> str | None:
    """The pretrained backbone, for a kind that can have one."""
    return recipe.backbone if isinstance(recipe, WithBackbone) else None


def _network_name(recipe: SegmenterSettings) -> str:
    """The network that a recipe names."""
    return f"{recipe.model} {_backbone(recipe)} {recipe.architecture}".lower()


def instance_statement(settings: Settings) -> str:
    """The line under Table I."""
    differs = data_differences(settings)
    if differs:
        return (
            f"The paper's counts (52,106 to 217,035) do not belong beside these: this run differs in {_and(differs)}."
        )
    rows = ", ".join(f"{name} {before:,} to {after:,}" for name, (before, after) in TABLE_1.items())
    return f"The paper's counts: {rows}. It does not say whether its second figure includes the originals."


def result_table(
    ap: pd.DataFrame, differences: pd.DataFrame, segmenter: str, settings: Settings, lead: str = CITYSCAPES_AP
) -> tuple[pd.DataFrame, str]:
    """Table II or III for one segmenter: an `ap_table` and a `difference_table` in the paper's columns, with the
    differences to the controls, and a line about the paper's figures.
    """
    recipe = settings.segmenters[segmenter]
    rows = ap[ap["segmenter"] == segmenter]
    metrics = sorted(scores_shown(rows, lead), key=lambda metric: "ap" in metric)
    against = differences[differences["segmenter"] == segmenter]
    rivals = [baseline for baseline in against["baseline"].unique() if baseline not in BASELINES]
    table = pd.concat(
        [
            names(rows),
            *(score_texts(rows, metric) for metric in metrics),
            *(_against(rows, against, baseline, lead) for baseline in [*BASELINES, *rivals]),
            readable(rows[["seeds"]]),
        ],
        axis=1,
    )
    theirs = published(recipe)
    differs = [*data_differences(settings), *recipe_differences(recipe)]
    if not theirs:
        return table, "The paper has no figures for this segmenter."
    if differs:
        return table, f"The paper's figures do not belong beside these: this run differs in {_and(differs)}."
    for metric in metrics:
        values = [
            theirs.get(arm, {}).get(metric, np.nan) / 100 if percent == 100 else np.nan
            for arm, percent in zip(rows["arm"], rows["percent"], strict=True)
        ]
        table[f"paper {metric.upper()}"] = readable(pd.DataFrame({metric: values})).iloc[:, 0].tolist()
    return table, "The paper's figures are of one training each, without a control."


def _against(rows: pd.DataFrame, differences: pd.DataFrame, baseline: str, lead: str) -> pd.Series:
    """AP of each row minus the baseline's, with its interval, as text."""
    found = differences[differences["baseline"] == baseline].set_index(["percent", "arm"])
    keys = list(zip(rows["percent"], rows["arm"], strict=True))
    texts = [difference_text(found.loc[key], lead) if key in found.index else MISSING for key in keys]
    return pd.Series(texts, index=rows.index, name=f"{heading(lead)} against {baseline} (95 %)")


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def table_title(segmenter: str, recipe: SegmenterSettings) -> str:
    """ "Table II: fastinst", "Table III: oneformer", or "mask2former" for one that the paper does not have."""
    numbers = {"fastinst": "Table II", "oneformer": "Table III"}
    number = numbers.get(recipe.kind)
    return f"{number}: {segmenter}" if number else segmenter
