"""Runs of the graph in processes of their own, forked from one that has imported everything already.

`Nursery` starts `python -m tests.faults.nursery`, which reads commands from its standard input, a JSON line each:

`kill` refreshes a store, SIGKILLs the process three times in each of four phases, at a random moment of its first,
second and last third, looks at the store after each kill, then lets a last one finish. `kill_after_a_part` kills a
refresh when it has stored a part of the first crops. `race` makes the same crops in two processes at once.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import dagster as dg
import fsspec

from assets import build_assets, build_graph
from assets.shared.partitions import asset_key, partition_tags
from instsynth_dagster.artifacts.store import Store, open_store
from instsynth_dagster.artifacts.writer import PartitionWriter
from instsynth_dagster.settings import Settings
from instsynth_dagster.synthesis.export import COCO_JSON
from jobs.refresh import refresh
from jobs.workers.runs import InThisProcess
from resources import build_resources
from tests.instances import empty_instance
from tests.toy_run import CROPS, ROWS_PER_PART

PHASES = {
    CROPS: 0.6,
    "diffinpainting/is_cityscapes": 0.3,
    "trained_segmenters": 1.0,
    "diffinpainting/export": 0.1,
}
"""Assets in whose making a kill falls, and the seconds within which it does."""
LIBRARIES = (
    "instsynth_dagster.segmenters.mask2former",
    "instsynth_dagster.segmenters.training.trainer",
    "instsynth_dagster.synthesis.generators.diffinpainting",
    "diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_inpaint",
    "transformers.models.clip.modeling_clip",
    "transformers.models.mask2former.modeling_mask2former",
    "transformers.models.resnet.modeling_resnet",
)
"""What a refresh imports only when an asset runs."""
KILLS_EACH = 3
SEED = 7
"""Of the moments."""


def refreshed(settings: Settings, log: Callable[[str], None]) -> Store:
    """Refresh a store, with small parts."""
    graph, resources = build_graph(settings), build_resources(settings)
    resources["store"].rows_per_part = ROWS_PER_PART
    with empty_instance() as instance:
        workers = InThisProcess(build_assets(graph), resources, instance)
        refresh(graph, resources["store"], workers, log)
    return resources["store"]


def forked(work: Callable[[Callable[[str], None]], Any]) -> tuple[int, Any]:
    """Start `work(say)` in a child; gives its process id and a file that reads what it says, line by line."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, os.fdopen(reading)
    os.close(reading)
    code = 1
    try:
        with os.fdopen(writing, "w", buffering=1) as lines:
            work(lambda line: print(line, file=lines))
        code = 0
    finally:
        os._exit(code)


def kill_while_making(settings: Settings, asset: str, delay: float) -> bool:
    """SIGKILL a refresh so long after it has begun with an asset; False where it was finished before."""
    pid, lines = forked(lambda log: refreshed(settings, log))
    for line in lines:
        if f" {asset}: " in line and "partitions (" in line:
            time.sleep(delay)
            break
    os.kill(pid, signal.SIGKILL)
    lines.close()
    return exit_status(pid) == -signal.SIGKILL


def make_stale(store: Store, graph: dict[str, Any], asset: str) -> None:
    """Where an asset is whole, take one of its partitions away, so that there is something to make."""
    partitions = graph[asset].partitions
    if all(store.manifest(asset, partition) for partition in partitions):
        (store.directory(asset, partitions[0]) / "manifest.json").unlink()


def whole_or_absent(store: Store, graph: dict[str, Any], exports: Path) -> None:
    """Whatever has a manifest is what it says; no half export lies where people look."""
    for key, asset in graph.items():
        for partition in asset.partitions:
            if store.manifest(key, partition):
                assert not store.verify(key, partition)
    for folder in exports.glob("*"):
        assert ".tmp-" in folder.name or (folder / COCO_JSON).exists(), folder


def make_crops(given: Settings) -> None:
    """All crops in one run, without the lock of a refresh: as several workers of a cluster are told to."""
    graph, resources = build_graph(given), build_resources(given)
    resources["store"].rows_per_part = ROWS_PER_PART
    keys = graph[CROPS].partitions
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(
            build_assets(graph),
            selection=dg.AssetSelection.assets(asset_key(CROPS)),
            resources=resources,
            instance=instance,
            tags=partition_tags(keys[0], keys[-1]),
        )


def kill(settings: Settings) -> dict[str, Any]:
    """How often it was killed in which phase, and the exit status of the last refresh."""
    moments = random.Random(SEED)
    graph, store = build_graph(settings), open_store(settings)
    killed: dict[str, int] = {}
    for asset, within in PHASES.items():
        for third in range(KILLS_EACH):
            make_stale(store, graph, asset)
            delay = (third + moments.random()) / KILLS_EACH * within
            killed[asset] = killed.get(asset, 0) + kill_while_making(settings, asset, delay)
            whole_or_absent(store, graph, settings.artifacts.exports)
    pid, lines = forked(lambda log: refreshed(settings, log))
    lines.read()
    return {"killed": killed, "code": exit_status(pid)}


def kill_after_a_part(settings: Settings) -> dict[str, Any]:
    """The exit status of a refresh that is killed when it has stored a part of the first crops."""

    def work(log: Callable[[str], None]) -> None:
        flush = PartitionWriter._flush

        def flush_and_die(out: PartitionWriter) -> None:
            flush(out)
            if out.asset == CROPS:
                os.kill(os.getpid(), signal.SIGKILL)

        PartitionWriter._flush = flush_and_die  # type: ignore[method-assign]
        refreshed(settings, log)

    pid, lines = forked(work)
    lines.read()
    return {"code": exit_status(pid)}


def race(settings: Settings) -> dict[str, Any]:
    """Exit statuses of two processes that make the same crops at once."""
    both = [forked(lambda _: make_crops(settings)) for _ in range(2)]
    return {"codes": [exit_status(pid) for pid, _ in both]}


def exit_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Nursery:
    """A process that others are forked from. It makes nothing itself: torch forks no process that has trained."""

    def __enter__(self) -> Self:
        self._errors = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "tests.faults.nursery"]
        given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors, "text": True}
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment, **given)
        return self

    def __call__(self, command: str, settings: Settings) -> dict[str, Any]:
        """The answer to a command, in the environment of this process."""
        assert self._process.stdin
        assert self._process.stdout
        given = [command, settings.model_dump_json(exclude_unset=True), dict(os.environ)]
        self._process.stdin.write(f"{json.dumps(given)}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        self._errors.seek(0)
        assert answer, self._errors.read()[-3000:]
        return json.loads(answer)

    def __exit__(self, *_: object) -> None:
        self._process.communicate()
        self._errors.close()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed
    for module in LIBRARIES:
        import_module(module)
    with dg.DagsterInstance.ephemeral():
        pass  # the first of a process imports a good deal
    gc.collect()
    gc.freeze()  # what the children share with this process
    for line in sys.stdin:
        command, settings, environment = json.loads(line)
        os.environ.clear()
        os.environ.update(environment)
        fsspec.config.set_conf_env(fsspec.config.conf)  # which fsspec reads when it is imported
        answer = {"kill": kill, "kill_after_a_part": kill_after_a_part, "race": race}[command]
        print(json.dumps(answer(Settings.model_validate_json(settings))), file=answers)


if __name__ == "__main__":
    main()
