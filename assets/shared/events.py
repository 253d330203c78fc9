"""Dagster's events for a partition: a materialization with the data version of its content and its provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from assets.shared.columns import describe_column
from assets.shared.kept import REPORTED, address, outcomes, reported
from assets.shared.made import Check, Markdown, Page
from assets.shared.partitions import Graph, asset_key, partition_of, shown_key
from instsynth_dagster.artifacts.manifest import Manifest
from instsynth_dagster.artifacts.store import UNPARTITIONED, Store
from instsynth_dagster.artifacts.writer import PIECE
from instsynth_dagster.graph.staleness import Asset, ManifestOf, intact_manifest, why_stale

Pointers = Mapping[str, str]
"""Storage id of the newest materialization of each upstream asset: a later one may make the partition stale."""

_VERSION, _CODE = "dagster/data_version", "dagster/code_version"
_ANOTHER = "another"
"""Code version of a partition that is stale already when it is reported."""


def code_version(asset: Asset) -> str:
    """The code version for Dagster: the asset's own, and a digest of the settings that it reads.

    Dagster has one code version for all partitions of an asset, so that an edit that one of them reads marks all as
    stale; a run removes the mark from those that it finds up to date.
    """
    settings = [asset.settings(partition) for partition in asset.partitions]
    return hashlib.sha256(json.dumps([asset.code_version, settings], sort_keys=True).encode()).hexdigest()[:16]


def data_version(manifest: Manifest) -> str:
    """Dagster's data version of a partition: the beginning of its content digest."""
    return manifest.digest[:32]


def metadata_of(store: Store, manifest: Manifest) -> dict[str, Any]:
    """Metadata of a partition for the UI: what its body reported, and its cost."""
    made = reported(store, manifest)
    summary = {
        name: value if isinstance(value, int | float | str) else json.dumps(value)
        for name, value in manifest.summary.items()
        if name not in (REPORTED, PIECE)
    }
    columns = [
        dg.TableColumn(name, kind, describe_column(name))
        for name, kind in store.columns(manifest.asset, manifest.partition)
    ]
    shown = {name: _shown(store, manifest, value) for name, value in made.metadata.items()}
    seen = (dg.MarkdownMetadataValue, dg.UrlMetadataValue)
    return {
        **{name: value for name, value in shown.items() if isinstance(value, seen)},
        **shown,
        **summary,
        **({"dagster/row_count": manifest.rows} if manifest.parts else {}),
        **({"dagster/column_schema": dg.TableSchema(columns)} if columns else {}),
        "made_at": manifest.made_at,
        "wall_seconds": manifest.wall_seconds,
        "device_seconds": manifest.device_seconds,
        "digest": manifest.digest[:12],
        "fingerprint": manifest.fingerprint[:12],
    }


def _shown(store: Store, manifest: Manifest, value: Any) -> Any:
    """A metadata value as Dagster shows it."""
    if isinstance(value, Markdown):
        return dg.MetadataValue.md(value.text)
    if isinstance(value, Page):
        if not store.storage.remote:
            return dg.MetadataValue.url(address(manifest, value))
        value = store.folder(manifest.asset, manifest.partition, value.folder) / value.file
    return dg.MetadataValue.path(str(value)) if isinstance(value, Path) else value


def check_results(
    asset: Asset, names: Mapping[str, bool], manifest_of: ManifestOf, blocked: Iterable[tuple[str, Check]]
) -> Iterator[dg.AssetCheckResult]:
    """One result for each check over all stored partitions, and those that a failed check has kept from being stored.

    Args:
        names: the checks for which Dagster waits, and whether they block.
    """
    checks_of: dict[str, list[tuple[str, Check]]] = {name: [] for name in names}
    for partition in asset.partitions:
        if manifest := intact_manifest(manifest_of, asset.key, partition):
            for check in outcomes(manifest):
                checks_of.setdefault(check.name, []).append((partition, check))
    for partition, check in blocked:
        checks_of.setdefault(check.name, []).append((partition, check))
    for name, blocking in names.items():
        failed = [(partition, check) for partition, check in checks_of[name] if not check.passed]
        partition, shown = (failed or checks_of[name] or [("", Check(name, True, "nothing was checked"))])[0]
        texts = {check.description for _, check in checks_of[name]}
        where = f"{shown_key(partition)}: " if asset.dimensions and (failed or len(texts) > 1) else ""
        about = "" if failed or len(texts) < 2 else f"all {len(checks_of[name])} partitions pass, such as "
        yield dg.AssetCheckResult(
            asset_key=asset_key(asset.key),
            check_name=name,
            passed=not failed,
            severity=dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN,
            description=f"{about}{where}{shown.description.removeprefix(f'{partition}: ')}",
            metadata={"partitions_checked": len(checks_of[name]), "partitions_failed": len(failed), **shown.metadata},
        )


class Record:
    """Dagster's event records of one asset."""

    def __init__(self, instance: dg.DagsterInstance, store: Store, asset: Asset) -> None:
        self._instance, self._store, self._asset = instance, store, asset
        self._code_version = code_version(asset)

    def pointers(self, partition: str) -> dict[str, str]:
        """Pointers of the upstream assets; to be read before the partition is checked, so that later events count as
        later.
        """
        keys = {asset_key(upstream): upstream for upstream, _ in self._asset.upstream(partition)}
        found = dict.fromkeys(keys.values(), "NULL")
        for record in self._instance.get_asset_records(list(keys)) if keys else ():
            if newest := record.asset_entry.last_materialization_record:
                found[keys[record.asset_entry.asset_key]] = str(newest.storage_id)
        return found

    def materialization(
        self, manifest: Manifest, read_at: Pointers, manifest_of: ManifestOf, *, stale: bool = False
    ) -> dg.AssetMaterialization:
        """The event of a stored partition."""
        return dg.AssetMaterialization(
            asset_key=asset_key(self._asset.key),
            partition=None if manifest.partition == UNPARTITIONED else shown_key(manifest.partition),
            metadata=metadata_of(self._store, manifest),
            tags={
                _VERSION: data_version(manifest),
                _CODE: _ANOTHER if stale else self._code_version,
                **self._inputs(manifest.partition, read_at, manifest_of),
            },
        )

    def _inputs(self, partition: str, read_at: Pointers, manifest_of: ManifestOf) -> dict[str, str]:
        """The input versions that Dagster itself would record in a run of this partition alone. It compares the data
        version of inputs without partitions, and the pointer of the others.
        """
        tags = {}
        for upstream, key in self._asset.upstream(partition):
            name = asset_key(upstream).to_user_string()
            manifest = intact_manifest(manifest_of, upstream, key)
            tags[f"dagster/input_data_version/{name}"] = data_version(manifest) if manifest else "NULL"
            tags[f"dagster/input_event_pointer/{name}"] = read_at[upstream]
        return tags

    def reported_by(self, run_id: str) -> set[str]:
        """Partitions whose materialization a run has recorded."""
        entries = self._instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        events = [entry.dagster_event for entry in entries if entry.dagster_event]
        return {_partition(event.partition) for event in events if event.asset_key == asset_key(self._asset.key)}

    def _newest_tags(self, partition: str) -> Mapping[str, str]:
        """Tags of the newest materialization of a partition in Dagster's records."""
        chosen = dg.AssetRecordsFilter(
            asset_key(self._asset.key), asset_partitions=None if partition == UNPARTITIONED else [shown_key(partition)]
        )
        for record in self._instance.fetch_materializations(chosen, limit=1).records:
            return _tags(record)
        return {}

    def report_unknown(self, seen: ManifestOf, manifest_of: ManifestOf, but: Collection[str] = ()) -> list[str]:
        """Report partitions that the store holds and Dagster does not know: made by killed runs, recorded by another
        instance, or restored by `dvc pull`. Returns these partitions.

        Args:
            seen: manifests as they were read just before, all at once; by these partitions are known.
            manifest_of: reads the manifest of one that is not known.
            but: partitions that are left to the caller.
        """
        reported = []
        latest = self._latest_tags()
        for partition in self._asset.partitions:
            if partition in but or self._is_known(partition, seen, latest):
                continue
            read_at = self.pointers(partition)
            manifest = intact_manifest(manifest_of, self._asset.key, partition)
            if manifest is None:
                continue
            stale = bool(why_stale(self._asset, partition, manifest_of))
            event = self.materialization(manifest, read_at, manifest_of, stale=stale)
            self._instance.report_runless_asset_event(event)
            reported.append(partition)
        return reported

    def _is_known(self, partition: str, manifest_of: ManifestOf, latest: Mapping[str, Mapping[str, str]]) -> bool:
        """Whether there is nothing to report for a partition. `latest` saves a query for each partition found in it."""
        manifest = intact_manifest(manifest_of, self._asset.key, partition)
        if manifest is None:
            return True

        def says_so(tags: Mapping[str, str]) -> bool:
            return tags.get(_VERSION) == data_version(manifest) and (
                tags.get(_CODE) == self._code_version or bool(why_stale(self._asset, partition, manifest_of))
            )

        return says_so(latest.get(partition, {})) or says_so(self._newest_tags(partition))

    def _latest_tags(self) -> dict[str, Mapping[str, str]]:
        """Tags of the newest materialization of each partition among the asset's last ones."""
        found: dict[str, Mapping[str, str]] = {}
        last = self._instance.fetch_materializations(asset_key(self._asset.key), limit=len(self._asset.partitions))
        for record in last.records:
            found.setdefault(_partition(record.partition_key), _tags(record))
        return found


def _partition(key: str | None) -> str:
    return partition_of(key) if key else UNPARTITIONED


def _tags(record: dg.EventLogRecord) -> Mapping[str, str]:
    event = record.asset_materialization
    return (event.tags or {}) if event else {}


def report_all_unknown(instance: dg.DagsterInstance, store: Store, graph: Graph, log: Callable[[str], None]) -> None:
    """`Record.report_unknown` of every asset of a graph, upstream first."""
    manifest_of = store.snapshot()
    reported = sum(
        len(Record(instance, store, asset).report_unknown(manifest_of, manifest_of)) for asset in graph.values()
    )
    if reported:
        log(f"{reported} partitions that exist in the store are reported to Dagster")
