"""Tables of few-shot protocols, grouping and costs for display: scores times 100, mean ± deviation."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import pandas as pd

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.evaluation.tables.tables import CITYSCAPES_AP, COCO_AP
from instsynth_dagster.evaluation.tables.views import MISSING, heading, signed


class View(NamedTuple):
    """An asset whose table is part of results and report; `text` takes the table and the leading metric."""

    title: str
    text: Callable[[pd.DataFrame, str], pd.DataFrame]


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


def _other(lead: str) -> str:
    """The AP of the protocol that does not lead."""
    return CITYSCAPES_AP if lead == COCO_AP else COCO_AP


def fsis_view(table: pd.DataFrame, lead: str = CITYSCAPES_AP) -> pd.DataFrame:
    """The view of `few_shot.instances.summary`.

    Args:
        lead: the metric by which systems are judged, "ap" or "coco_ap", as in the other views.
    """
    view = pd.DataFrame({"system": table["system"], **_about(table)})
    ap, ap50, other = (heading(name, lead) for name in (lead, f"{lead}50", _other(lead)))
    headings = {
        f"base_{lead}": f"base {ap}",
        f"novel_{lead}": f"novel {ap}",
        f"novel_{lead}50": f"novel {ap50}",
        f"all_{lead}": ap,
        f"all_{lead}50": ap50,
        f"novel_{_other(lead)}": f"novel {other}",
        "novel_mask_iou": "mask IoU, true boxes",
    }
    for metric, name in headings.items():
        if metric in table and table[metric].notna().any():
            view[name] = _with_deviation(table, metric)
    for metric, name in {f"novel_{lead}": f"novel {ap}", "novel_mask_iou": "mask IoU"}.items():
        if f"{metric}_gain" in table and table[f"{metric}_gain"].notna().any():
            view[f"{name} by synthesis (95 % over seeds)"] = _gains(table, f"{metric}_gain")
    return view


def gfss_view(table: pd.DataFrame) -> pd.DataFrame:
    """The view of `few_shot.gfss.summary`."""
    view = pd.DataFrame({**_about(table), "background": table["background"]})
    for metric in ("base", "novel", "mean", "harmonic"):
        view[f"{metric} mIoU"] = _with_deviation(table, metric)
    return view


def grouping_view(table: pd.DataFrame, lead: str = CITYSCAPES_AP) -> pd.DataFrame:
    """The view of the asset `grouping_scores`."""
    view = table[["semantics", "method"]].copy()
    aps = {name: heading(name, lead) for name in (lead, f"{lead}50", _other(lead))}
    for metric, name in (aps | {"iou": "IoU", "iou_touching": "IoU of touching"}).items():
        view[name] = _with_deviation(table, metric)
    return view.assign(touching=table["touching"].astype(str))


def cost_view(table: pd.DataFrame, lead: str = CITYSCAPES_AP) -> pd.DataFrame:
    """The view of the asset `segmenter_costs`, whose ap and ap50 are those of the leading protocol."""
    view = pd.DataFrame({"segmenter": table["segmenter"]})
    for column, name, digits in (
        ("parameters", "parameters, M", 2),
        ("trained", "trained, M", 2),
        ("gmacs", "GMACs", 1),
        ("milliseconds", "ms", 0),
    ):
        if column in table:
            view[name] = [f"{value:.{digits}f}" for value in table[column]]
    for metric, name in (("ap", heading(lead, lead)), ("ap50", heading(f"{lead}50", lead))):
        view[name] = _with_deviation(table, metric)
    return view


VIEWS: Mapping[str, View] = {
    "gfss_table": View("Generalised few-shot segmentation", lambda table, _: gfss_view(table)),
    "fsis_table": View("Few-shot instance segmentation", fsis_view),
    "grouping_scores": View("Instances from semantic maps", grouping_view),
    "segmenter_costs": View("What segmenters cost", cost_view),
}


def stored_views(store: Store, assets: Collection[str], lead: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Asset, title and text table of each of `VIEWS` that is one of `assets` and has been made.

    Args:
        lead: the metric that is judged by, "ap" or "coco_ap".
    """
    for asset, view in VIEWS.items():
        if asset in assets and store.manifest(asset):
            table = store.read(asset)
            if len(table):
                yield asset, view.title, view.text(table, lead)
