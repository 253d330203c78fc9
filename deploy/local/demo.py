"""Makes one small graph twice, in one process and on the local cluster, and compares every digest.

    python deploy/local/demo.py

Starts the cluster (`cluster.py stop` ends it) and prints which worker made which partitions when.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent))
import cluster

WORK = cluster.STATE / "demo"


def params(side: str, steps: int = 20) -> Path:
    """The params file of a side: the same graph on the same data, artifacts and exports of its own."""
    raw = yaml.safe_load((Path(__file__).parent / "demo.yaml").read_text())
    raw["segmenters"]["mask2former"]["steps"] = steps
    raw["dataset"]["root"] = str(WORK / "data")
    raw["artifacts"] = {name: str(WORK / side / name) for name in ("root", "exports", "results")}
    if side == "cluster":
        raw["artifacts"] |= {"root": f"s3://{cluster.BUCKET}/demo", "cache": ".cache/artifacts"}
    path = WORK / f"{side}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(raw))
    return path


def refresh_in_one_process(steps: int = 20) -> float:
    """Job `refresh` in a process of its own, with a Dagster home of its own. Returns seconds."""
    home = WORK / "single/home"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cluster.PROJECT / "deploy/single/dagster.yaml", home / "dagster.yaml")
    command = [
        sys.executable,
        "-m",
        "dagster",
        "job",
        "execute",
        "-m",
        "instsynth_dagster.definitions",
        "-j",
        "refresh",
    ]
    started = time.monotonic()
    _call(command, {"DAGSTER_HOME": str(home), "INSTSYNTH_PARAMS": str(params("single", steps))}, WORK / "single.log")
    return time.monotonic() - started


def instance() -> Any:
    """The cluster's Dagster instance, in this process."""
    import dagster as dg

    os.environ.update(cluster.environment())
    sys.path.insert(0, str(cluster.PROJECT))
    return dg.DagsterInstance.get()


def launch(job: str) -> str:
    """Queue a job of the cluster; returns its run."""
    command = [sys.executable, "-m", "dagster", "job", "launch", "-w", "workspace.yaml", "-j", job]
    run = f"{time.time_ns():032x}"
    run = "-".join((run[:8], run[8:12], run[12:16], run[16:20], run[20:]))
    _call([*command, "--run-id", run], {}, WORK / "launch.log")
    return run


def wait(instance: Any, run: str) -> None:
    """Until a run, or the one that replaces it after a crash, is over."""
    while not (found := instance.get_run_by_id(run)).is_finished:
        time.sleep(1)
    if found.tags.get("dagster/will_retry") == "true":
        while not (replaced := instance.get_run_by_id(run).tags.get("dagster/auto_retry_run_id")):
            time.sleep(1)
        wait(instance, replaced)
    elif not found.is_success:
        raise SystemExit(f"error: run {run} ended as {found.status.value}")


def runs(instance: Any) -> list[dict[str, Any]]:
    """Runs of assets, oldest first: asset, partitions, route, worker, begin and end in seconds, status, retry."""
    records = instance.get_run_records(ascending=True)
    return [
        {
            "asset": record.dagster_run.tags["instsynth/asset"],
            "partitions": _partitions(record.dagster_run.tags),
            "route": record.dagster_run.tags["instsynth/route"],
            "worker": record.dagster_run.tags.get("instsynth/worker", ""),
            "begin": record.start_time or 0.0,
            "end": record.end_time or 0.0,
            "retry": "dagster/parent_run_id" in record.dagster_run.tags,
            "status": record.dagster_run.status.value,
        }
        for record in records
        if "instsynth/asset" in record.dagster_run.tags
    ]


def overlaps(made: list[dict[str, Any]]) -> list[tuple[str, str, str, float]]:
    """Pairs of runs of one asset on two workers at once: asset, workers, seconds together."""
    found = []
    for a, b in combinations(made, 2):
        seconds = min(a["end"], b["end"]) - max(a["begin"], b["begin"])
        if a["asset"] == b["asset"] and a["worker"] != b["worker"] and seconds > 0:
            found.append((a["asset"], a["worker"], b["worker"], seconds))
    return found


def compare(steps: int = 20) -> list[str]:
    """Partitions whose content digest on the cluster is not that of the one process."""
    single, clustered = digests("single", steps), digests("cluster", steps)
    return [key for key in single if single[key] != clustered.get(key)]


def digests(side: str, steps: int) -> dict[str, str]:
    """Content digest of every partition of a side."""
    from assets import build_graph
    from instsynth_dagster.artifacts.store import open_store
    from instsynth_dagster.settings import load_settings

    settings = load_settings(params(side, steps))
    store = open_store(settings)
    return {
        f"{key}[{partition}]": store.require(key, partition).digest
        for key, asset in build_graph(settings).items()
        for partition in asset.partitions
    }


def _partitions(tags: dict[str, str]) -> str:
    first, last = (tags.get(f"dagster/asset_partition_range_{end}", "all") for end in ("start", "end"))
    return first if first == last else f"{first} .. {last}"


def _call(command: list[str], environment: dict[str, str], log: Path) -> None:
    with log.open("wb") as file:
        result = subprocess.run(
            command,
            cwd=cluster.PROJECT,
            env=cluster.environment() | environment,
            stdout=file,
            stderr=file,
            check=False,
        )
    if result.returncode:
        raise SystemExit(f"error: {' '.join(command[1:])} failed; see {log}")


def main() -> None:
    os.environ["INSTSYNTH_PARAMS"] = str(params("cluster"))
    try:
        cluster.start()
    except cluster.ClusterError as error:
        raise SystemExit(f"error: {error}") from None
    print(f"one process: {refresh_in_one_process():.0f} s", flush=True)
    storage, started = instance(), time.monotonic()
    wait(storage, launch("refresh"))
    print(f"cluster: {time.monotonic() - started:.0f} s")
    made = runs(storage)
    zero = min(run["begin"] for run in made)
    for run in made:
        span = f"{run['begin'] - zero:6.1f} to {run['end'] - zero:6.1f} s"
        print(f"{span}  {run['worker']:12} {run['route']:4} {run['status']:8} {run['asset']}[{run['partitions']}]")
    together = overlaps(made)
    print(f"{len(together)} pairs of runs of one asset at once on two workers, such as")
    for asset, first, second, seconds in sorted(together, key=lambda pair: -pair[3])[:5]:
        print(f"  {asset}: {first} and {second}, {seconds:.1f} s")
    different = compare()
    print(f"{len(digests('single', 20))} partitions, {len(different)} with another digest {different or ''}")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()
