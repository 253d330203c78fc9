"""How an asset of the graph becomes a Dagster asset: fingerprint, store, checks, metadata, one event per partition."""

import inspect
import json
import time
import warnings as python_warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from assets.shared.declaration import Artifact
from assets.shared.made import Check, Made, Markdown
from assets.shared.partitions import Graph, asset_key, dependencies, partitions_definition, partitions_of_run
from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.artifacts.store import Store
from instsynth_dagster.artifacts.writer import PIECE
from instsynth_dagster.errors import ArtifactError, UserError, is_transient, what_happened
from instsynth_dagster.graph.staleness import Asset, expected, why_stale
from resources.progress import progress_bar

RETRIES, RETRY_SECONDS = 3, 10
OWNER = "team:perception"
DEVICE_POOL = "device"
_OFF_DEVICE = {"store", "dataset"}
"""Resources that only read and write; the others' work belongs on the accelerator, one step at a time."""

python_warnings.filterwarnings("ignore", category=dg.BetaWarning)  # once per asset otherwise, on every start


class _Blocked(Exception):
    """Leaves a partition unwritten because a blocking check failed."""


def stored_asset(artifact: Artifact, graph: Graph) -> dg.AssetsDefinition:
    """The Dagster asset of an artifact.

    A partition whose manifest already carries the expected fingerprint is reported again, not made again.
    """
    definition = partitions_definition(artifact)
    declared = artifact.declaration

    @dg.asset(
        key=asset_key(artifact.key),
        description=inspect.getdoc(declared.make),
        partitions_def=definition,
        deps=dependencies(artifact, graph),
        backfill_policy=dg.BackfillPolicy.single_run() if definition else None,
        code_version=artifact.code_version,
        group_name=declared.group,
        owners=[OWNER],
        pool=DEVICE_POOL if _on_device(artifact.resources) else None,
        metadata={"dagster/code_references": _code_reference(declared.make)},
        kinds=set(declared.kinds),
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
        yield from _materialise(context, artifact)

    return compute


def _materialise(context: dg.AssetExecutionContext, asset: Artifact) -> Iterator[Any]:
    store: Store = context.resources.store
    resources = {name: getattr(context.resources, name) for name in asset.resources}
    outcomes: list[tuple[str, Check]] = []
    events: list[tuple[str, Manifest, Mapping[str, Any]]] = []
    failure: Exception | None = None
    partitions = partitions_of_run(context)
    with progress_bar(asset.key, len(partitions)) as progress:
        for partition in partitions:
            try:
                manifest, made = _make_partition(store, asset, partition, resources, outcomes, context.log.info)
            except (UserError, _Blocked) as error:
                failure = error
                break
            except OSError as error:
                if is_transient(error):
                    # what is already stored is only reported again by the next try
                    context.log.warning(f"{asset.key}[{partition}]: {error}; trying again in {RETRY_SECONDS} s")
                    raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from error
                if not (told := what_happened(error)):
                    raise
                failure = ArtifactError(f"{asset.key}[{partition}]: {told}")
                break
            events.append((partition, manifest, made.metadata))
            progress(len(events), len(partitions))
            context.log.info(f"{asset.key}[{partition}]: {manifest.rows} rows, {manifest.wall_seconds:.1f} s")
    yield from _check_results(outcomes)
    yield from _materialisations(context, asset, events)
    if failure:
        raise dg.Failure(description=str(failure), allow_retries=False)


def _on_device(resources: Iterable[str]) -> bool:
    return bool(set(resources) - _OFF_DEVICE)


def _code_reference(make: Callable[..., Any]) -> dg.CodeReferencesMetadataValue:
    code = make.__code__
    reference = dg.LocalFileCodeReference(
        file_path=code.co_filename, line_number=code.co_firstlineno, label=make.__name__
    )
    return dg.CodeReferencesMetadataValue(code_references=[reference])


def _make_partition(
    store: Store,
    asset: Artifact,
    partition: str,
    resources: Mapping[str, Any],
    outcomes: list[tuple[str, Check]],
    say: Callable[[str], None],
) -> tuple[Manifest, Made]:
    """Make a partition, unless it is up to date, or is once another run that makes it has let go of it."""
    for upstream, upstream_partition in asset.upstream(partition):
        store.require(upstream, upstream_partition)
    if not why_stale(asset, partition, store.manifest):
        return store.require(asset.key, partition), Made({"up_to_date": True})
    with store.lock(asset.key, partition, say) as lock:
        if not why_stale(asset, partition, store.manifest):
            return store.require(asset.key, partition), Made({"up_to_date": True})
        now = expected(asset, partition, store.manifest)
        assert now is not None
        on_device = _on_device(resources)
        piece = _piece_seconds(store, asset) if on_device and store.device_hours else 0.0
        with store.write(asset.key, partition, now.fingerprint, now.components, lock, piece) as out:
            if on_device:
                out.meter.check()
            started = time.monotonic()
            made = asset.declaration.make(out, partition, **asset.arguments(partition, resources)) or Made()
            if on_device and out.rows and not out.device_seconds:  # without a row there was no work for the device
                out.meter.spend(time.monotonic() - started)
                out.device_seconds = out.meter.used
            outcomes += [(partition, check) for check in made.checks]
            failed = [check for check in made.checks if check.blocking and not check.passed]
            if failed:
                raise _Blocked(f"{asset.key}[{partition}]: {failed[0].name}: {failed[0].description}")
    return store.require(asset.key, partition), made


def _piece_seconds(store: Store, asset: Asset) -> float:
    """The longest piece of device work that partitions of an asset have taken so far."""
    made = [manifest for partition in asset.partitions if (manifest := store.manifest(asset.key, partition))]
    return max((manifest.summary.get(PIECE, 0.0) for manifest in made), default=0.0)


def _check_results(outcomes: list[tuple[str, Check]]) -> Iterator[dg.AssetCheckResult]:
    """One result per check for the whole run: failed if it failed on any partition."""
    for name in dict.fromkeys(check.name for _, check in outcomes):
        mine = [(partition, check) for partition, check in outcomes if check.name == name]
        failed = [(partition, check) for partition, check in mine if not check.passed]
        partition, shown = (failed or mine)[0]
        yield dg.AssetCheckResult(
            check_name=name,
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if shown.blocking else dg.AssetCheckSeverity.WARN,
            description=f"{partition}: {shown.description}" if failed else shown.description,
            metadata={"partitions_checked": len(mine), **dict(shown.metadata)},
        )


def _materialisations(
    context: dg.AssetExecutionContext, asset: Asset, events: list[tuple[str, Manifest, Mapping[str, Any]]]
) -> Iterator[Any]:
    if len(events) == 1:
        _, manifest, metadata = events[0]
        yield dg.MaterializeResult(
            metadata=_metadata(manifest, metadata) | _schema(context.resources.store, asset, events),
            data_version=dg.DataVersion(manifest.digest[:32]),
        )
        return
    if events and len(context.run.asset_selection or ()) > 1:
        yield dg.MaterializeResult()  # lets the next asset of this run start; the events below carry the content
    pointers, schema = _event_pointers(context, asset), _schema(context.resources.store, asset, events)
    for partition, manifest, metadata in events:
        tags = {"dagster/data_version": manifest.digest[:32], "dagster/code_version": asset.code_version}
        tags |= _input_tags(context.resources.store, asset, partition, pointers)
        if len(asset.dimensions) > 1:
            names = sorted(asset.dimensions)
            tags |= {f"dagster/partition/{name}": key for name, key in zip(names, partition.split("|"), strict=True)}
        context.log_event(
            dg.AssetMaterialization(
                asset_key=asset_key(asset.key),
                partition=partition,
                metadata=_metadata(manifest, metadata) | schema,
                tags=tags,
            )
        )


def _event_pointers(context: dg.AssetExecutionContext, asset: Asset) -> dict[str, str]:
    """Storage id of the newest materialization of every upstream asset: later ones make this run's work unsynced."""
    pointers = {}
    for upstream in {key for partition in asset.partitions for key, _ in asset.upstream(partition)}:
        newest = context.instance.fetch_materializations(asset_key(upstream), limit=1).records
        pointers[upstream] = str(newest[0].storage_id) if newest else "NULL"
    return pointers


def _input_tags(store: Store, asset: Asset, partition: str, pointers: Mapping[str, str]) -> dict[str, str]:
    """What Dagster itself would note of a partition's inputs, so that the UI calls it synced until one changes."""
    versions = dict.fromkeys(pointers, "not read")  # a dependency of other partitions of the asset
    versions |= {key: store.require(key, part).digest[:32] for key, part in asset.upstream(partition)}
    names = {key: asset_key(key).to_user_string() for key in pointers}
    return {
        **{f"dagster/input_data_version/{names[key]}": version for key, version in versions.items()},
        **{f"dagster/input_event_pointer/{names[key]}": pointer for key, pointer in pointers.items()},
    }


def _schema(
    store: Store, asset: Asset, events: Sequence[tuple[str, Manifest, Mapping[str, Any]]]
) -> dict[str, dg.TableSchema]:
    """Columns of the asset's tables, from the first partition that has rows."""
    for partition, manifest, _ in events:
        if manifest.rows:
            columns = store.columns(asset.key, partition)
            return {"dagster/column_schema": dg.TableSchema([dg.TableColumn(*column) for column in columns])}
    return {}


def _metadata(manifest: Manifest, extra: Mapping[str, Any]) -> dict[str, Any]:
    summary = {
        name: value if isinstance(value, int | float | str) else json.dumps(value)
        for name, value in manifest.summary.items()
    }
    counted = {"dagster/row_count": manifest.rows} if manifest.parts else {}
    return {
        **counted,
        "wall_seconds": manifest.wall_seconds,
        "device_seconds": manifest.device_seconds,
        "digest": manifest.digest[:12],
        "fingerprint": manifest.fingerprint[:12],
        **summary,
        **{name: _shown(value) for name, value in extra.items()},
    }


def _shown(value: Any) -> Any:
    """A metadata value as Dagster shows it."""
    if isinstance(value, Markdown):
        return dg.MetadataValue.md(value.text)
    return dg.MetadataValue.path(str(value)) if isinstance(value, Path) else value
