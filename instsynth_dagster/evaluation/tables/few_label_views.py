"""Tables of few-shot protocols, grouping and costs for display: scores times 100, mean ± deviation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.evaluation.tables.views import MISSING, signed


class View(NamedTuple):
    """An asset whose table is part of results and report."""

    title: str
    text: Callable[[pd.DataFrame], pd.DataFrame]


def _with_deviation(table: pd.DataFrame, metric: str) -> list[str]:
    deviations = table.get(f"{metric}_sd", pd.Series(float("nan"), table.index))
    return [
        MISSING if pd.isna(mean) else f"{100 * mean:.1f}" + ("" if pd.isna(sd) else f" ± {100 * sd:.1f}")
        for mean, sd in zip(table[metric], deviations, strict=True)
    ]


def _about(table: pd.DataFrame) -> dict[str, list[str]]:
    return {
        "shots": [str(count) for count in table["shots"]],
        "synthesis": ["yes" if made else "no" for made in table["with_synthesis"]],
    }


def _gains(table: pd.DataFrame, gain: str) -> list[str]:
    return [
        "" if pd.isna(mean) else signed(mean) + ("" if pd.isna(low) else f" ({signed(low)} to {signed(high)})")
        for mean, low, high in zip(table[gain], table[f"{gain}_low"], table[f"{gain}_high"], strict=True)
    ]


def fsis_view(table: pd.DataFrame) -> pd.DataFrame:
    """The view of `few_shot.instances.summary`."""
    view = pd.DataFrame({"system": table["system"], **_about(table)})
    headings = {
        "base_ap": "base AP",
        "novel_ap": "novel AP",
        "novel_ap50": "novel AP50",
        "all_ap": "AP",
        "all_ap50": "AP50",
        "novel_mask_iou": "mask IoU, true boxes",
    }
    for metric, heading in headings.items():
        if metric in table and table[metric].notna().any():
            view[heading] = _with_deviation(table, metric)
    for metric, heading in {"novel_ap": "novel AP", "novel_mask_iou": "mask IoU"}.items():
        if f"{metric}_gain" in table and table[f"{metric}_gain"].notna().any():
            view[f"{heading} by synthesis (95 % over seeds)"] = _gains(table, f"{metric}_gain")
    return view


def gfss_view(table: pd.DataFrame) -> pd.DataFrame:
    """The view of `few_shot.gfss.summary`."""
    view = pd.DataFrame({**_about(table), "background": table["background"]})
    for metric in ("base", "novel", "mean", "harmonic"):
        view[f"{metric} mIoU"] = _with_deviation(table, metric)
    return view


def grouping_view(table: pd.DataFrame) -> pd.DataFrame:
    """The view of the asset `grouping_scores`."""
    view = table[["semantics", "method"]].copy()
    for metric, heading in {"ap": "AP", "ap50": "AP50", "iou": "IoU", "iou_touching": "IoU of touching"}.items():
        view[heading] = [f"{100 * value:.1f}" for value in table[metric]]
    return view.assign(touching=table["touching"].astype(str))


def cost_view(table: pd.DataFrame) -> pd.DataFrame:
    """The view of the asset `segmenter_costs`."""
    view = pd.DataFrame({"segmenter": table["segmenter"]})
    for column, heading, digits in (
        ("parameters", "parameters, M", 2),
        ("trained", "trained, M", 2),
        ("gmacs", "GMACs", 1),
        ("milliseconds", "ms", 0),
    ):
        if column in table:
            view[heading] = [f"{value:.{digits}f}" for value in table[column]]
    return view.assign(AP=_with_deviation(table, "ap"), AP50=_with_deviation(table, "ap50"))


VIEWS: Mapping[str, View] = {
    "gfss_table": View("Generalised few-shot segmentation", gfss_view),
    "fsis_table": View("Few-shot instance segmentation", fsis_view),
    "grouping_scores": View("Instances from semantic maps", grouping_view),
    "segmenter_costs": View("What segmenters cost", cost_view),
}


def stored_views(store: Store, assets: Collection[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Asset, title and text table of each of `VIEWS` that is one of `assets` and has been made."""
    for asset, view in VIEWS.items():
        if asset in assets and store.manifest(asset):
            table = store.read(asset)
            if len(table):
                yield asset, view.title, view.text(table)
