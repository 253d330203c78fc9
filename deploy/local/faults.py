"""Breaks the local cluster on purpose and looks at what comes out: nothing lost, nothing made twice.

    python deploy/local/faults.py            # after demo.py, whose partitions it starts from

The worker of the `gpu` queue is killed (SIGKILL) while it trains, then PostgreSQL, then RabbitMQ is restarted while
others train, then the S3 server is out of reach for a while (connections break and are refused, what it holds stays:
see `s3_door.py`). Each time the graph must end with the digests of an undisturbed process and at most one new
materialization of a partition.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import cluster
import demo

TRAINED = "trained_segmenters"
DOWN, S3_DOWN = 3.0, 15.0
"""Seconds for which a killed service is away, and the S3 server."""


def kill_worker() -> None:
    """SIGKILL to the GPU worker, and another one in its place."""
    process = cluster.running("worker-gpu-1")
    os.kill(process, signal.SIGKILL)
    print(f"  killed worker-gpu-1 (process {process})", flush=True)
    time.sleep(DOWN)
    cluster.worker("gpu-1").start()


def restart(name: str, down: float = DOWN) -> None:
    """A service is stopped while runs need it, and started again."""
    service = next(service for service in cluster.services() if service.name == name)
    print(f"  stopping {name} (process {cluster.running(name)})", flush=True)
    cluster.end(name, service.stop)
    time.sleep(down)
    service.start()
    print(f"  {name} is back after {down:.0f} s", flush=True)


def disturbed(steps: int, fault: Callable[[], None]) -> bool:
    """Refresh with trainings of `steps`, disturb them, and say whether everything is as it should be."""
    for side in ("single", "cluster"):
        demo.params(side, steps)
    demo.refresh_in_one_process(steps)
    instance = demo.instance()
    before = instance.event_log_storage.get_maximum_record_id() or 0
    began = time.time()
    run = demo.launch("refresh")
    while not (at_work := training(instance, began)) or not any("gpu-1" in item["worker"] for item in at_work):
        time.sleep(1)
    time.sleep(5)
    print(f"  at work: {', '.join(item['partitions'] + ' on ' + item['worker'] for item in at_work)}", flush=True)
    fault()
    demo.wait(instance, run)
    for item in demo.runs(instance):
        if item["begin"] > began and item["asset"] == TRAINED:
            retried = " (in place of one that was lost)" if item["retry"] else ""
            print(f"  {item['status']:8} {item['worker']:12} {item['asset']}[{item['partitions']}]{retried}")
    different = demo.compare(steps)
    twice = made_twice(instance, before)
    print(f"  {len(different)} digests differ, {len(twice)} partitions were made twice {different or ''} {twice or ''}")
    return not different and not twice


def training(instance: Any, began: float) -> list[dict[str, Any]]:
    return [
        run
        for run in demo.runs(instance)
        if run["asset"] == TRAINED and run["begin"] > began and run["status"] == "STARTED"
    ]


def made_twice(instance: Any, before: int) -> list[str]:
    """Partitions with more than one materialization that was not merely reported again."""
    import dagster as dg

    counts: Counter[str] = Counter()
    for key in instance.all_asset_keys():
        filters = dg.AssetRecordsFilter(asset_key=key, after_storage_id=before)
        for record in instance.fetch_materializations(filters, limit=1000).records:
            event = record.asset_materialization
            if "up_to_date" not in event.metadata:
                counts[f"{key.to_user_string()}[{event.partition}]"] += 1
    return [name for name, count in counts.items() if count > 1]


def main() -> None:
    if not cluster.running("dagster"):
        raise SystemExit("error: the cluster does not run; python deploy/local/demo.py starts it")
    faults: dict[str, tuple[int, Callable[[], None]]] = {
        "a worker is killed": (60, kill_worker),
        "PostgreSQL is restarted": (80, lambda: restart("postgres")),
        "RabbitMQ is restarted": (100, lambda: restart("rabbitmq")),
        "the S3 server is away": (120, lambda: restart("s3-door", S3_DOWN)),
    }
    good = True
    for text, (steps, fault) in faults.items():
        print(text, flush=True)
        good &= disturbed(steps, fault)
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
