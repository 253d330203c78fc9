"""The jobs that people launch from the command line or the UI."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from assets.partitions import Graph
from instsynth_dagster.store import UNPARTITIONED, Store
from jobs.refresh import refresh
from resources.progress import progress_bar

INFO = {"loggers": {"console": {"config": {"log_level": "INFO"}}}}


def build_jobs(
    graph: Graph, assets: Sequence[dg.AssetsDefinition], resources: Mapping[str, Any]
) -> list[dg.JobDefinition]:
    """All jobs of a params file."""
    store: Store = resources["store"]

    def walk(context: dg.OpExecutionContext, part: Graph) -> None:
        refresh(part, assets, resources, context.instance, context.log.info)

    @dg.op
    def refresh_stale(context: dg.OpExecutionContext) -> None:
        walk(context, graph)

    @dg.op
    def refresh_and_show(context: dg.OpExecutionContext) -> None:
        walk(context, graph)
        for line in _results(graph, store):
            print(line)

    @dg.op
    def refresh_exports(context: dg.OpExecutionContext) -> None:
        walk(context, _above(graph, [key for key in graph if key.endswith("/export")]))

    @dg.op
    def pretrain() -> None:
        from instsynth_dagster.pretraining.generative import pretrain_generative
        from instsynth_dagster.pretraining.vision import pretrain_vision

        for pretrain_family in (pretrain_vision, pretrain_generative):
            pretrain_family(Path("build/pretraining"), Path("checkpoints"), progress_bar)

    @dg.job(name="refresh", config=INFO, description="Bring the graph up to date: whatever is stale is made again.")
    def refresh_job() -> None:
        refresh_stale()

    @dg.job(
        name="demo", config=INFO, description="The main job: refresh, then print the tables and where the report is."
    )
    def demo_job() -> None:
        refresh_and_show()

    @dg.job(
        name="export",
        config=INFO,
        description="Refresh up to the exports (Cityscapes tree and COCO JSON); no training.",
    )
    def export_job() -> None:
        refresh_exports()

    @dg.job(
        name="pretrain_demo_models",
        config=INFO,
        description="Train the mini checkpoints again from nothing; hours on two cores, resumable.",
    )
    def pretrain_job() -> None:
        pretrain()

    return [refresh_job, demo_job, export_job, pretrain_job]


def _above(graph: Graph, keys: Sequence[str]) -> Graph:
    """The part of the graph that `keys` and everything they read from make up, in the graph's order."""
    wanted = set(keys)
    for key in reversed(list(graph)):
        if key in wanted:
            wanted |= {upstream for part in graph[key].partitions for upstream, _ in graph[key].upstream(part)}
    return {key: asset for key, asset in graph.items() if key in wanted}


def _results(graph: Graph, store: Store) -> list[str]:
    if "evaluation_tables" not in graph:
        return []
    tables = store.folder("evaluation_tables", UNPARTITIONED, "tables")
    report = store.folder("report", UNPARTITIONED, "report") / "report.html"
    texts = [(tables / name).read_text() for name in ("table_1.md", "average_precision.md", "verdict.md")]
    return ["", *texts, f"report: {report.resolve()}"]
