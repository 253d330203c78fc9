"""An artifact as a Dagster asset: fingerprint, store, checks, metadata, one event for each partition."""

import inspect
import warnings as python_warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import dagster as dg

from assets.shared.declaration import Artifact
from assets.shared.events import Record, check_results, code_version
from assets.shared.making import Blocked, Making
from assets.shared.partitions import (
    Graph,
    asset_key,
    dependencies,
    partitions_definition,
    partitions_of_run,
    readers,
)
from instsynth_dagster.artifacts.snapshot import Snapshot
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.errors import ArtifactError, UserError, is_transient, what_happened
from instsynth_dagster.graph.staleness import Asset
from resources.progress import progress_bar, reporting_to

RETRIES, RETRY_SECONDS = 3, 10
OWNER = "team:perception"
DEVICE_POOL = "device"
_OFF_DEVICE = {"store", "dataset"}
"""Resources that only read and write; assets with other resources run on the accelerator, one step at a time."""

_EVENTS_ELSEWHERE = "dagster/defer_asset_events"
"""Tag of a run whose outputs record no materializations."""

python_warnings.filterwarnings(
    "ignore", category=dg.BetaWarning
)  # otherwise it is logged for each asset, at every start

_KIND = 40
"""Most characters of a kind; Dagster stores it in the name of a tag, which has at most 63."""


def stored_asset(artifact: Artifact, graph: Graph) -> dg.AssetsDefinition:
    """The Dagster asset of an artifact.

    A partition whose manifest already has the expected fingerprint is reported again and not made again.
    """
    definition = partitions_definition(artifact)
    declared = artifact.declaration

    @dg.asset(
        key=asset_key(artifact.key),
        description=_description(artifact),
        partitions_def=definition,
        deps=dependencies(artifact, graph),
        backfill_policy=dg.BackfillPolicy.single_run() if definition else None,
        code_version=code_version(artifact),
        group_name=declared.group,
        owners=[OWNER],
        pool=DEVICE_POOL if _on_device(artifact.resources) else None,
        metadata={"dagster/code_references": _code_reference(declared.make)},
        kinds=declared.kinds | ({artifact.member[:_KIND]} if artifact.member else set()),
        check_specs=[
            dg.AssetCheckSpec(name, asset=asset_key(artifact.key), description=text, blocking=blocking)
            for named, blocking in ((declared.checks, True), (artifact.warnings, False))
            for name, text in named.items()
        ],
        required_resource_keys={"store", *artifact.resources},
        dagster_type=dg.Nothing,  # type: ignore[call-overload]
        output_required=False,
    )
    def compute(context: dg.AssetExecutionContext) -> Iterator[Any]:
        given = {name: getattr(context.resources, name) for name in artifact.resources}
        on_device = _on_device(artifact.resources)
        yield from _materialise(
            context, graph, Making(context.resources.store, artifact, given, on_device, context.log.info)
        )

    return compute


def _materialise(context: dg.AssetExecutionContext, graph: Graph, making: Making) -> Iterator[Any]:
    """Make the partitions of a run, and report each one to Dagster as soon as it is stored."""
    store, asset = making.store, making.asset
    partitions = partitions_of_run(context)
    record = Record(context.instance, store, asset)
    upstream = [graph[key] for key in readers(asset)]
    seen = _manifests(store, *upstream, asset)
    for above in upstream:
        Record(context.instance, store, above).report_unknown(seen, store.manifest)
    record.report_unknown(seen, store.manifest, but=partitions)
    reported = record.reported_by(context.run_id)  # by an earlier attempt
    failure: Exception | None = None
    single: dg.AssetMaterialization | None = None
    with reporting_to(context.log.info), progress_bar(asset.key, len(partitions)) as progress:
        for done, partition in enumerate(partitions, 1):
            try:
                with _expected_refusals(context, f"{asset.key}[{partition}]"):
                    stored = making.partition(partition, record.pointers)
            except (UserError, Blocked) as error:
                failure = error
                break
            context.log.info(stored.line())
            inputs = store.snapshot(asset.upstream(partition))
            event = record.materialization(stored.manifest, stored.read_at, inputs)
            if len(partitions) == 1:
                single = event
            elif partition not in reported:
                context.log_event(event)
            progress(done, len(partitions))
    chosen = {key.name: key.name in asset.declaration.checks for key in context.selected_asset_check_keys}
    blocked = [failure.outcome] if isinstance(failure, Blocked) else []
    for result in check_results(asset, chosen, _manifests(store, asset), blocked):
        if not (result.passed or chosen[str(result.check_name)]):
            context.log.warning(f"{asset.key}: {result.check_name}: {result.description}")
        yield result
    if failure:
        raise dg.Failure(description=str(failure), allow_retries=False)
    yield from _output(context, single)


def _manifests(store: Store, *assets: Asset) -> Snapshot:
    """The manifests of all partitions of some assets as they are now."""
    return store.snapshot([(asset.key, partition) for asset in assets for partition in asset.partitions])


@contextmanager
def _expected_refusals(context: dg.AssetExecutionContext, name: str) -> Iterator[None]:
    """Context for refusals of the operating system: retried later where that may help, else reported in one line."""
    try:
        yield
    except OSError as error:
        if is_transient(error):
            context.log.warning(f"{name}: {error}; trying again in {RETRY_SECONDS} s")
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from error
        if reported := what_happened(error):
            raise ArtifactError(f"{name}: {reported}") from error
        raise


def _output(
    context: dg.AssetExecutionContext, single: dg.AssetMaterialization | None
) -> Iterator[dg.MaterializeResult]:
    """The output of the step, which allows the next asset of the run to start.

    For a single partition it is the event. For several, Dagster would record each with the same data version; they have
    been recorded one by one.
    """
    if single:
        version = dg.DataVersion((single.tags or {})["dagster/data_version"])
        yield dg.MaterializeResult(metadata=single.metadata, data_version=version, tags=single.tags)
        return
    tags = cast(dict[str, str], context.run.tags)
    tags[_EVENTS_ELSEWHERE] = "true"
    try:
        yield dg.MaterializeResult()
    finally:
        del tags[_EVENTS_ELSEWHERE]


def _description(artifact: Artifact) -> str:
    """The description of the artifact, with its member first, because the graph shows only the last part of a key."""
    whose = f"**{artifact.member}**: " if artifact.member else ""
    return f"{whose}{inspect.getdoc(artifact.declaration.make)}"


def _on_device(resources: Iterable[str]) -> bool:
    return bool(set(resources) - _OFF_DEVICE)


def _code_reference(make: Callable[..., Any]) -> dg.CodeReferencesMetadataValue:
    code = make.__code__
    reference = dg.LocalFileCodeReference(
        file_path=code.co_filename, line_number=code.co_firstlineno, label=make.__name__
    )
    return dg.CodeReferencesMetadataValue(code_references=[reference])
