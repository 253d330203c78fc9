"""The report: one HTML page."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from assets.shared.declaration import At, artifact
from assets.shared.made import Made, Page
from assets.shared.pictures import PICTURES, SHEET
from assets.shared.repainted import scored_by
from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.store import UNPARTITIONED, PartitionWriter
from instsynth_dagster.artifacts.writer import PAGES
from instsynth_dagster.data.images import decode_png
from instsynth_dagster.data.versions import dvc_revision
from instsynth_dagster.evaluation.report.crops import crop_gallery
from instsynth_dagster.evaluation.report.examples import prediction_frames, synthesis_examples
from instsynth_dagster.evaluation.report.record import current_provenance, flattened
from instsynth_dagster.evaluation.report.report import ReportData, render_report, stamped
from instsynth_dagster.evaluation.report.side_by_side import SIDE_BY_SIDE
from instsynth_dagster.evaluation.tables.curves import loss_curves
from instsynth_dagster.evaluation.tables.few_label_views import VIEWS, stored_views
from instsynth_dagster.evaluation.tables.tables import leading_metric
from instsynth_dagster.evaluation.tables.tabulate import TABLES, TEST_TABLES, paper_tables, views_of_test_cities
from instsynth_dagster.graph import window_generators
from instsynth_dagster.graph.refs import all_cities, all_runs, city_classes, each
from instsynth_dagster.graph.staleness import PartitionRef
from instsynth_dagster.segmenters.kinds import WithBackbone
from instsynth_dagster.settings import SegmenterSettings, Settings
from instsynth_dagster.settings.base import Role, role
from instsynth_dagster.settings.view import hashed
from instsynth_dagster.synthesis.gates import SCORE_ASSETS
from resources.dataset import Dataset


def _reads(at: At) -> list[PartitionRef]:
    settings = at.settings
    wanted = {
        "segmenter_costs": True,
        "gfss_table": settings.few_shot,
        "fsis_table": settings.few_shot_instances,
        "grouping_scores": settings.semantics,
        "image_quality": settings.judge and window_generators(settings),
    }
    synthesis = [
        f"{name}/{kind}"
        for name in window_generators(settings)
        for kind in ("inpainted_crops", "is_cityscapes", *scored_by(settings))
    ]
    return [
        ("evaluation_tables", UNPARTITIONED),
        *((asset, UNPARTITIONED) for asset, made in wanted.items() if made),
        *each("trained_segmenters", all_runs(settings)),
        *each("segmentation_scores", all_runs(settings)),
        *each("frames", all_cities(settings)),
        *(ref for asset in ("selected_instances", *synthesis) for ref in each(asset, city_classes(settings))),
    ]


@artifact(
    "report",
    code_version="4",
    when=lambda settings: settings.segmenters and settings.dataset.val_cities,
    settings=[name for name in Settings.model_fields if role(Settings, name) is not Role.EXECUTION],
    reads=_reads,
    group="evaluation",
    kinds={"html"},
)
def report(out: PartitionWriter, _: str, settings: Settings, store: DeclaredStore, dataset: Dataset) -> Made:
    """One self-contained HTML page: verdict, tables, training curves, repainted instances from frame to window,
    predictions beside the ground truth, provenance. The stored digest excludes date and commit.
    """
    tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    read = {name: pd.read_parquet(tables / f"{name}.parquet") for name in (*TABLES, *TEST_TABLES)}
    quality, lead = bool(store.declared("image_quality")), leading_metric(dataset.labels, settings.evaluation.protocol)
    generators = [name for name in settings.generators if store.declared(f"{name}/is_cityscapes")]
    data = ReportData(
        verdict=(tables / "verdict.md").read_text(),
        ap=read["average_precision"],
        differences=read["differences"],
        parts=read["parts"],
        results=[*paper_tables(read, settings, lead), *views_of_test_cities(read, lead)],
        instances=read["table_1"],
        quality=store.read("image_quality") if quality else pd.DataFrame(),
        side_by_side=_side_by_side(store) if quality else None,
        further=[
            (title, table, _picture(store, asset))
            for asset, title, table in stored_views(store, [asset for asset in VIEWS if store.declared(asset)], lead)
        ],
        galleries=[
            crop_gallery(
                store,
                name,
                crops,
                [kind for kind in SCORE_ASSETS if store.declared(f"{name}/{kind}")],
                settings.gates,
            )
            for name in generators
            if (crops := store.declared(f"{name}/inpainted_crops"))
        ],
        curves=loss_curves(store, store.declared("trained_segmenters")),
        examples=synthesis_examples(store, dataset.image_of, generators, settings),
        frames=prediction_frames(store, dataset.image_and_ids, settings),
        labels=dataset.labels,
        settings=flattened(hashed(settings)),
        lead=lead,
        provenance={
            "data": _data_version(store, dataset),
            "tables": store.require("evaluation_tables").digest[:16],
            "base seed": str(settings.seed),
            **{name: f"{s.model}, {s.steps} steps, guidance {s.guidance}" for name, s in settings.generators.items()},
            **{name: f"{s.steps} steps from {_start(s)}" for name, s in settings.segmenters.items()},
        },
    )
    page = render_report(data)
    out.add_table(pd.DataFrame([{"page": "report.html", "sha256": hashlib.sha256(page.encode()).hexdigest()}]))
    path = out.folder(PAGES) / "report.html"
    made = current_provenance() | {"data in DVC": dvc_revision(dataset.root) or "not tracked"}
    path.write_text(stamped(page, made))
    return Made({"report": Page(PAGES, path.name)})


def _data_version(store: DeclaredStore, dataset: Dataset) -> str:
    """The frames from which everything was made, by a digest of their content."""
    manifests = [store.require("frames", city) for city in store.declared("frames")]
    digest = hashlib.sha256("".join(manifest.digest for manifest in manifests).encode()).hexdigest()
    frames = sum(manifest.rows for manifest in manifests)
    return f"{dataset.root}: {frames:,} frames of {len(manifests)} cities, version {digest[:16]}"


def _side_by_side(store: DeclaredStore) -> np.ndarray:
    return decode_png((store.folder("image_quality", UNPARTITIONED, "pictures") / SIDE_BY_SIDE).read_bytes())


def _picture(store: DeclaredStore, asset: str) -> np.ndarray | None:
    """The contact sheet that an asset stores beside its table, if any."""
    if PICTURES not in store.require(asset).folders:
        return None
    return decode_png((store.folder(asset, UNPARTITIONED, PICTURES) / SHEET).read_bytes())


def _start(segmenter: SegmenterSettings) -> str:
    """The start weights of a segmenter: a pretrained one knows classes that synthesis might otherwise have
    taught it.
    """
    if segmenter.model:
        return f"the pretrained segmenter {segmenter.model}"
    backbone = segmenter.backbone if isinstance(segmenter, WithBackbone) else None
    return f"the pretrained backbone {backbone}" if backbone else "random weights"
