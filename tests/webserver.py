"""Dagster's web server and daemon in one process, for tests: what the browser would ask, and runs that end before the
answer comes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from assets.shared.partitions import shown_key
from instsynth_dagster.settings import Settings
from tests.instances import migrations_read_once

_DEFINITIONS = """
from pathlib import Path
from instsynth_dagster.definitions import build_definitions
from instsynth_dagster.settings import load_settings

def read():
    return load_settings(Path({params!r}))

defs = build_definitions(read(), read)
"""

_LAUNCH = """mutation($run: ExecutionParams!) { launchPipelineExecution(executionParams: $run) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack } } }"""
_BACKFILL = """mutation($backfill: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $backfill) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message stack } } }"""
_CANCEL = """mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) {
  __typename ... on CancelBackfillSuccess { backfillId } ... on PythonError { message stack } } }"""
_NUMBERS = count()
_LOOKS, _UNFINISHED = 50, ("REQUESTED", "FAILING", "CANCELING")
_REPOSITORY = {"repositoryLocationName": "tests", "repositoryName": "__repository__"}


class Browser:
    """What a user of the UI can ask for, on a project with these settings."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance, settings: Settings) -> None:
        self.instance = instance
        self._params = folder / "params.yaml"
        self.edit(settings)
        self._folder = folder
        self._load()

    def _load(self) -> None:
        from dagster._core.remote_origin import InProcessCodeLocationOrigin
        from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
        from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
        from dagster._core.workspace.context import WorkspaceProcessContext

        definitions = self._folder / f"loaded_{next(_NUMBERS)}.py"  # a process loads a file once
        definitions.write_text(_DEFINITIONS.format(params=str(self._params)))
        target = LoadableTargetOrigin(python_file=str(definitions), attribute="defs")
        self._process = WorkspaceProcessContext(
            self.instance, InProcessTestWorkspaceLoadTarget(InProcessCodeLocationOrigin(target, location_name="tests"))
        )

    def edit(self, settings: Settings) -> None:
        """Write the params file; `reload` shows what that changes."""
        self._params.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_unset=True)))

    def reload(self) -> None:
        """What a new process of the code location loads."""
        self.close()
        self._load()

    def ask(self, query: str, **variables: Any) -> Any:
        from dagster_graphql.test.utils import execute_dagster_graphql

        answer = execute_dagster_graphql(self._process.create_request_context(), query, variables)
        assert not answer.errors, answer.errors
        return answer.data

    def materialize(self, *assets: str, partition: str = "", last: str = "") -> dg.DagsterRun:
        """The button, for one partition, or as a single run for a range of them."""
        tags = [{"key": "dagster/partition", "value": shown_key(partition)}] if partition and not last else []
        if last:
            tags = [
                {"key": ASSET_PARTITION_RANGE_START_TAG, "value": shown_key(partition)},
                {"key": ASSET_PARTITION_RANGE_END_TAG, "value": shown_key(last)},
            ]
        selector = {**_REPOSITORY, "pipelineName": "__ASSET_JOB", "assetSelection": [_key(asset) for asset in assets]}
        selector["assetCheckSelection"] = None
        run = {"selector": selector, "mode": "default", "executionMetadata": {"tags": tags}, "runConfigData": {}}
        return self._finished(self.ask(_LAUNCH, run=run)["launchPipelineExecution"])

    def launch(self, job: str) -> dg.DagsterRun:
        """A job's launchpad."""
        selector = {**_REPOSITORY, "pipelineName": job}
        config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        run = {"selector": selector, "mode": "default", "runConfigData": config}
        return self._finished(self.ask(_LAUNCH, run=run)["launchPipelineExecution"])

    def backfill(self, assets: Sequence[str], partitions: Sequence[str] | None) -> str:
        """Launch a backfill (of all partitions: None) and let the daemon work; returns how it ended."""
        return self.end_of_backfill(self.launch_backfill(assets, partitions))

    def launch_backfill(self, assets: Sequence[str], partitions: Sequence[str] | None) -> str:
        """Launch a backfill, on which the daemon has not worked yet; returns its id."""
        named = {"partitionNames": list(map(shown_key, partitions or ()))}
        chosen = {"allPartitions": True} if partitions is None else named
        asked = {"assetSelection": [_key(asset) for asset in assets], "title": "test", **chosen}
        answer = self.ask(_BACKFILL, backfill=asked)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def cancel_backfill(self, backfill: str) -> None:
        answer = self.ask(_CANCEL, id=backfill)["cancelPartitionBackfill"]
        assert answer["__typename"] == "CancelBackfillSuccess", answer

    def end_of_backfill(self, backfill: str) -> str:
        """Let the daemon work until a backfill has ended; returns how."""
        from dagster._daemon.backfill import execute_backfill_iteration

        for _ in range(_LOOKS):
            if (found := self.instance.get_backfill(backfill)) and found.status.value not in _UNFINISHED:
                return str(found.status.value)
            for error in execute_backfill_iteration(self._process, logging.getLogger("backfill")):
                assert error is None, error
        raise AssertionError("the backfill does not end")

    def stale(self, asset: str, partitions: Sequence[str]) -> dict[str, str]:
        """Dagster's own word for each partition: FRESH, STALE or MISSING."""
        query = """query($key: AssetKeyInput!, $part: String) { assetNodeOrError(assetKey: $key) {
          ... on AssetNode { staleStatus(partition: $part) } } }"""
        return {
            part: self.ask(query, key=_key(asset), part=None if part == "all" else shown_key(part))["assetNodeOrError"][
                "staleStatus"
            ]
            for part in partitions
        }

    def events(self, asset: str, partition: str = "all") -> list[dg.AssetMaterialization]:
        """Materializations of a partition that Dagster has recorded, newest first."""
        chosen = dg.AssetRecordsFilter(
            dg.AssetKey(asset.split("/")), asset_partitions=None if partition == "all" else [shown_key(partition)]
        )
        found = self.instance.fetch_materializations(chosen, limit=1000).records
        return [record.asset_materialization for record in found if record.asset_materialization]

    def close(self) -> None:
        self._process.__exit__(None, None, None)

    def _finished(self, answer: dict[str, Any]) -> dg.DagsterRun:
        assert answer["__typename"] == "LaunchRunSuccess", answer
        run = self.instance.get_run_by_id(answer["run"]["runId"])
        assert run
        return run


def _key(asset: str) -> dict[str, list[str]]:
    return {"path": asset.split("/")}


@contextmanager
def browser(folder: Path, settings: Settings) -> Iterator[Browser]:
    """A browser on an instance of its own below `folder`."""
    from dagster._core.test_utils import instance_for_test

    home = folder / "dagster_home"
    home.mkdir(exist_ok=True)
    launcher = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
    coordinator = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    settings_of_instance = {"run_launcher": launcher, "run_coordinator": coordinator}
    with migrations_read_once(), instance_for_test(overrides=settings_of_instance, temp_dir=str(home)) as instance:
        opened = Browser(folder, instance, settings)
        try:
            yield opened
        finally:
            opened.close()
