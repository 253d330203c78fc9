"""The files of an evaluation from stored predictions: Parquet for programs, Markdown for display."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.data.labels import LabelTable
from instsynth_dagster.evaluation.metrics.coco_ap import coco_matches
from instsynth_dagster.evaluation.metrics.instance_ap import match_frame
from instsynth_dagster.evaluation.metrics.map_counts import COUNTS, MAPS, stacked_counts
from instsynth_dagster.evaluation.tables.paper import instance_statement, result_table, table_title
from instsynth_dagster.evaluation.tables.tables import (
    Run,
    ap_table,
    compare,
    difference_table,
    instance_table,
    part_table,
)
from instsynth_dagster.evaluation.tables.verdict import verdict
from instsynth_dagster.evaluation.tables.views import (
    ap_view,
    class_view,
    difference_view,
    instance_view,
    part_view,
    to_markdown,
)
from instsynth_dagster.graph import TrainingRun, TrainingSet
from instsynth_dagster.settings import Settings

TABLES = ("table_1", "average_precision", "differences", "parts")
TEST_TABLES = ("test_average_precision", "test_differences")


def read_runs(
    store: Store, partitions: Sequence[str], truth: Mapping[str, np.ndarray], settings: Settings, labels: LabelTable
) -> list[Run]:
    """The trainings of the partitions `<run>|<segmenter>`, matched against the ground truth: frame id -> ids int32 (H,
    W).
    """
    runs = []
    for key in partitions:
        name, segmenter = key.split("|")
        training = TrainingRun.parse(name)
        predictions = dict(iter(store.read("segmentation_scores", key).groupby("frame_id")))
        nothing = pd.DataFrame(columns=["class_name", "score", "mask_counts"])
        pairs = [(ids, predictions.get(frame_id, nothing)) for frame_id, ids in truth.items()]
        maps: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
        if "pq" in store.require("segmentation_scores", key).summary:
            counts = store.folder("segmentation_scores", key, MAPS) / COUNTS
            maps = stacked_counts(pd.read_parquet(counts), list(truth))
        runs.append(
            Run(
                arm=training.data.arm,
                segmenter=segmenter,
                seed=training.seed,
                steps=settings.segmenters[segmenter].steps,
                samples=store.require("training_sets", training.data.name).rows,
                matches=[match_frame(ids, predicted, labels) for ids, predicted in pairs],
                coco=coco_matches(pairs, settings.classes, labels),
                percent=training.data.percent,
                panoptic=maps[0],
                semantic=maps[1],
            )
        )
    return runs


def tables_of(
    runs: Sequence[Run], store: Store, settings: Settings, labels: LabelTable, lead: str
) -> dict[str, pd.DataFrame]:
    """The tables of TABLES; `lead` is the metric by which arms are compared, "ap" or "coco_ap"."""
    most = max(settings.label_percents)
    samples = {arm: store.read("training_sets", TrainingSet(arm, most).name) for arm in settings.arms}
    comparison = compare(runs, settings.seed, settings.classes, lead=lead)
    return {
        "table_1": instance_table(samples, settings.classes, labels),
        "average_precision": ap_table(runs, settings.classes, lead),
        "differences": difference_table(comparison),
        "parts": part_table(comparison),
    }


def tables_of_test_cities(runs: Mapping[str, Sequence[Run]], settings: Settings, lead: str) -> dict[str, pd.DataFrame]:
    """The tables of TEST_TABLES: scores and differences with a column city in front, one test city after the other.

    Args:
        runs: the trainings as scored on each test city.
    """
    classes = settings.classes
    scores = [ap_table(of_city, classes, lead) for of_city in runs.values()]
    differences = [difference_table(compare(of_city, settings.seed, classes, lead=lead)) for of_city in runs.values()]
    return {name: _by_city(list(runs), found) for name, found in zip(TEST_TABLES, (scores, differences), strict=True)}


def _by_city(cities: Sequence[str], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if not cities:
        return pd.DataFrame({"city": []})
    return pd.concat([table.assign(city=city) for city, table in zip(cities, tables, strict=True)], ignore_index=True)


def views_of_test_cities(tables: Mapping[str, pd.DataFrame], lead: str) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Title, text table and verdict of each test city, on which no choice may have been based."""
    for city, rows in tables[TEST_TABLES[1]].groupby("city", sort=False):
        text = verdict(rows, lead).replace("val frames", f"frames of {city}")
        yield f"Test city {city}: differences", difference_view(rows, lead), text


def paper_tables(
    tables: Mapping[str, pd.DataFrame], settings: Settings, lead: str
) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Tables II and III, and corresponding ones for other segmenters: title, text table, remark."""
    for segmenter, recipe in settings.segmenters.items():
        table, remark = result_table(tables["average_precision"], tables["differences"], segmenter, settings, lead)
        yield table_title(segmenter, recipe), table, remark


def markdown_of(tables: Mapping[str, pd.DataFrame], settings: Settings, lead: str) -> dict[str, str]:
    """Every table, and the verdict, as Markdown by name.

    Args:
        lead: the metric by which arms are compared, "ap" or "coco_ap".
    """
    results = {
        f"results_{segmenter}": f"{title}\n\n{to_markdown(table)}\n{remark}"
        for segmenter, (title, table, remark) in zip(
            settings.segmenters, paper_tables(tables, settings, lead), strict=True
        )
    }
    tested = {
        f"test_{number}": f"{title}\n\n{to_markdown(table)}\n{text}"
        for number, (title, table, text) in enumerate(views_of_test_cities(tables, lead))
    }
    return {
        **tested,
        "table_1": f"{to_markdown(instance_view(tables['table_1']))}\n{instance_statement(settings)}",
        **results,
        "average_precision": to_markdown(ap_view(tables["average_precision"], lead)),
        "ap50_by_class": to_markdown(class_view(tables["average_precision"])),
        "differences": to_markdown(difference_view(tables["differences"], lead)),
        "parts": to_markdown(part_view(tables["parts"])),
        "verdict": verdict(tables["differences"], lead),
    }


def write_tables(tables: Mapping[str, pd.DataFrame], markdown: Mapping[str, str], folder: Path) -> None:
    """Write tables as Parquet and texts as Markdown into a folder, under their names."""
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    for name, text in markdown.items():
        (folder / f"{name}.md").write_text(text + "\n")
