"""Tables and the report: did synthesis help?"""

from __future__ import annotations

import dagster as dg
import numpy as np
import pandas as pd

from assets.shared.partitions import Graph
from assets.shared.pictures import PICTURES, SHEET
from assets.shared.stored import Made, stored_asset
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter, Store
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.evaluation.report.examples import prediction_frames, synthesis_examples
from instsynth_dagster.evaluation.report.gate_gallery import stored_gate_sheet
from instsynth_dagster.evaluation.report.report import ReportData, render_report
from instsynth_dagster.evaluation.report.side_by_side import SIDE_BY_SIDE
from instsynth_dagster.evaluation.tables.curves import loss_curves
from instsynth_dagster.evaluation.tables.few_label_views import stored_views
from instsynth_dagster.evaluation.tables.tabulate import (
    TABLES,
    markdown_of,
    paper_tables,
    read_runs,
    tables_of,
    write_tables,
)
from instsynth_dagster.settings import SegmenterSettings, Settings
from resources.dataset import Dataset


def build(settings: Settings, graph: Graph) -> list[dg.AssetsDefinition]:
    if "evaluation_tables" not in graph:
        return []
    return [_evaluation_tables(settings, graph), _report(settings, graph)]


def _evaluation_tables(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["evaluation_tables"], graph, group="evaluation", kinds={"cityscapes", "coco"})
    def evaluation_tables(out: PartitionWriter, _: str, store: Store, dataset: Dataset) -> Made:
        """Tables I to III: instances per class and arm, scores of each segmenter and arm (mean and deviation over
        seeds), and every arm's difference to `real` and `zoom_crop` with a paired bootstrap interval over the val
        frames, in all, by class and by size."""
        frames = store.read_many("frames", settings.dataset.val_cities)
        truth = {row.frame_id: dataset.ids(row) for row in frames.itertuples()}
        runs = read_runs(store, graph["segmentation_scores"].partitions, truth, settings)
        tables = tables_of(runs, store, settings)
        markdown = markdown_of(tables, settings)
        write_tables(tables, markdown, out.folder("tables"))
        out.summary["verdict"] = markdown["verdict"]
        return Made({name: dg.MetadataValue.md(text) for name, text in markdown.items()})

    return evaluation_tables


def _report(settings: Settings, graph: Graph) -> dg.AssetsDefinition:
    @stored_asset(graph["report"], graph, group="evaluation", kinds={"html"})
    def report(out: PartitionWriter, _: str, store: Store, dataset: Dataset) -> Made:
        """One self-contained HTML page: verdict, tables, training curves, repainted instances from frame to window,
        predictions beside the truth, provenance."""
        tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
        read = {name: pd.read_parquet(tables / f"{name}.parquet") for name in TABLES}
        data = ReportData(
            verdict=(tables / "verdict.md").read_text(),
            ap=read["average_precision"],
            differences=read["differences"],
            parts=read["parts"],
            results=list(paper_tables(read, settings)),
            instances=read["table_1"],
            quality=store.read("image_quality") if "image_quality" in graph else pd.DataFrame(),
            side_by_side=_side_by_side(store) if "image_quality" in graph else None,
            further=[
                (title, table, _picture(store, asset)) for asset, title, table in stored_views(store) if asset in graph
            ],
            gates={
                name: stored_gate_sheet(store, name, graph["selected_instances"].partitions, settings.gates)
                for name in settings.generators
                if settings.judge
            },
            curves=loss_curves(store, graph["trained_segmenters"].partitions),
            examples=synthesis_examples(store, dataset.image_of, settings),
            frames=prediction_frames(store, dataset.image_and_ids, settings),
            provenance={
                "tables": store.require("evaluation_tables").digest[:16],
                "base seed": str(settings.seed),
                **{
                    name: f"{s.model}, {s.steps} steps, guidance {s.guidance}"
                    for name, s in settings.generators.items()
                },
                **{name: f"{s.steps} steps from {_start(s)}" for name, s in settings.segmenters.items()},
            },
        )
        path = out.folder("report") / "report.html"
        path.write_text(render_report(data))
        return Made({"report": dg.MetadataValue.path(str(path.resolve()))})

    return report


def _side_by_side(store: Store) -> np.ndarray:
    return decode_png((store.folder("image_quality", UNPARTITIONED, "pictures") / SIDE_BY_SIDE).read_bytes())


def _picture(store: Store, asset: str) -> np.ndarray | None:
    """The contact sheet that an asset keeps beside its table, if it does."""
    if PICTURES not in store.require(asset).folders:
        return None
    return decode_png((store.folder(asset, UNPARTITIONED, PICTURES) / SHEET).read_bytes())


def _start(segmenter: SegmenterSettings) -> str:
    """What a segmenter knew before: a pretrained one knows classes that synthesis might otherwise have taught it."""
    if segmenter.model:
        return f"the pretrained segmenter {segmenter.model}"
    return f"the pretrained backbone {segmenter.backbone}" if segmenter.backbone else "random weights"
