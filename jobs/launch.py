"""The jobs, for the command line and the UI."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from assets.shared.events import report_all_unknown
from assets.shared.partitions import Graph
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.evaluation.tables.tables import leading_metric
from instsynth_dagster.graph import ANONYMISED
from instsynth_dagster.settings import Settings
from jobs.console import console
from jobs.refresh import refresh
from jobs.results import cost_lines, result_lines, write_results
from jobs.workers import open_workers
from resources.progress import progress_bar

INFO = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}

_JOBS = {
    "refresh": ("Bring the graph and results/ up to date: whatever is stale is made again.", None),
    "prepare": (
        "Phase 1: the index of the data set, selected instances, prompts and their words; prototypes where labels are "
        "refined.",
        ("selected_instances", "prompt_bank", "lighting", "captions", "prototypes"),
    ),
    "synthesize": (
        "Phases 1 to 3: crops, their quality, windows and exports; no training.",
        ("is_cityscapes", "crop_quality", "export", "refined_pseudo_labels"),
    ),
    "export": (
        "Refresh up to the exports (Cityscapes tree and COCO JSON); no training.",
        ("export",),
    ),
    "anonymise": (
        "The whole data set with everything hidden that `anonymise` names, exported and compared with its source.",
        (f"{ANONYMISED}/export",),
    ),
    "train": ("Refresh up to the trained segmenters.", ("trained_segmenters",)),
    "evaluate": (
        "Refresh up to tables and report, and write results/ (tables, metrics.json, loss curves).",
        ("evaluation_tables", "image_quality", "report", "gfss_table", "fsis_table", "grouping_scores"),
    ),
    "demo": ("The main job: refresh, then print the tables and where the report is.", None),
}
"""Description of each job, and the asset keys, or their last parts, that it brings up to date (None: all)."""
REFRESHING = tuple(_JOBS)
"""Names of the jobs that make partitions."""


def build_jobs(
    settings: Settings, graph: Graph, assets: Sequence[dg.AssetsDefinition], resources: Mapping[str, Any]
) -> list[dg.JobDefinition]:
    """All jobs of a params file."""
    store: Store = resources["store"]

    def job(name: str) -> dg.JobDefinition:
        description, ends = _JOBS[name]
        part = graph if ends is None else _above(graph, [key for key in graph if {key, key.split("/")[-1]} & {*ends}])

        def body(context: dg.OpExecutionContext) -> None:
            if not part:
                raise dg.Failure(f"{name}: the params file asks for no {' or '.join(ends or ())}", allow_retries=False)
            with open_workers(settings, part, assets, resources, context) as workers:
                done = refresh(part, store, workers, context.log.info)
            context.instance.add_run_tags(context.run_id, done.tags())
            report_all_unknown(context.instance, store, part, context.log.info)
            lead = leading_metric(settings.labels, settings.evaluation.protocol)
            if ends is None or name == "evaluate":
                write_results(graph, store, settings.artifacts.results, settings.costs, lead)
            if name == "demo":
                print("\n".join([*result_lines(graph, store, lead), *cost_lines(graph, store, settings.costs)]))

        return _single_op_job(name, description, body)

    def pretrain(_: dg.OpExecutionContext) -> None:
        from instsynth_dagster.demo.pretraining.cards import listed_anew
        from instsynth_dagster.demo.pretraining.denoiser import pretrain_decoder
        from instsynth_dagster.demo.pretraining.generative import pretrain_generative
        from instsynth_dagster.demo.pretraining.vision import pretrain_vision

        with listed_anew(Path("checkpoints")):
            for pretrain_family in (pretrain_generative, pretrain_vision, pretrain_decoder):
                pretrain_family(Path("build/pretraining"), Path("checkpoints"), progress_bar)

    text = "Train the mini checkpoints again from nothing; hours on two cores, resumable."
    return [*map(job, _JOBS), _single_op_job("pretrain_demo_models", text, pretrain)]


def _single_op_job(name: str, description: str, body: Callable[[dg.OpExecutionContext], None]) -> dg.JobDefinition:
    @dg.op(name=f"run_{name}", out=dg.Out(dg.Nothing))
    def op(context: dg.OpExecutionContext) -> None:
        body(context)

    @dg.job(name=name, description=description, config=INFO, logger_defs={"console": console})
    def single() -> None:
        op()

    return single


def _above(graph: Graph, keys: Sequence[str]) -> Graph:
    """The part of the graph with `keys` and all their upstream assets, in the graph's order."""
    wanted = set(keys)
    for key in reversed(list(graph)):
        if key in wanted:
            wanted |= {upstream for part in graph[key].partitions for upstream, _ in graph[key].upstream(part)}
    return {key: asset for key, asset in graph.items() if key in wanted}
